package builder

import (
	"context"
	"errors"
	"fmt"
	"os"

	"bake/internal/payload"
	"bake/internal/vmmbundle"
)

// A vmm is the hypervisor to embed.
type vmm struct {
	manifest payload.VMM
	source   payload.Source
	temp     string
}

func (v *vmm) close() {
	if v.temp != "" {
		os.Remove(v.temp)
	}
}

// openVMM returns what o.VMM asks for, or nil for none.
func openVMM(ctx context.Context, o Options) (*vmm, error) {
	kind := o.VMM
	if kind == "" || kind == "auto" {
		kind = "none"
		if o.Firecracker != "" {
			kind = "firecracker"
		} else {
			o.Progress("embedding no hypervisor: the app uses the QEMU of the machine that it runs on (--vmm qemu embeds this one's)")
		}
	}
	switch kind {
	case "none":
		return nil, nil
	case "firecracker":
		if o.Firecracker == "" {
			return nil, errors.New("--vmm firecracker needs the executable: name it with --firecracker")
		}
		src, err := payload.FileSource(payload.PartVMM, o.Firecracker)
		if err != nil {
			return nil, err
		}
		return &vmm{manifest: payload.VMM{Kind: "firecracker"}, source: src}, nil
	case "qemu":
		return bundleQEMU(ctx, o)
	}
	return nil, fmt.Errorf("--vmm %q does not exist: choose auto, firecracker, qemu or none", o.VMM)
}

// bundleQEMU collects this machine's QEMU with its libraries and firmware.
func bundleQEMU(ctx context.Context, o Options) (*vmm, error) {
	o.Progress("collecting this machine's QEMU with its libraries and firmware")
	f, err := os.CreateTemp("", "bake-vmm-")
	if err != nil {
		return nil, fmt.Errorf("make a file for the QEMU bundle: %w", err)
	}
	v := &vmm{temp: f.Name()}
	info, err := vmmbundle.Collect(ctx, vmmbundle.Options{Arch: o.Arch}, f)
	if err = errors.Join(err, f.Close()); err != nil {
		v.close()
		return nil, fmt.Errorf("embed QEMU: %w", err)
	}
	v.manifest = payload.VMM{Kind: "qemu", Version: info.Version, Entry: info.Entry}
	if v.source, err = payload.FileSource(payload.PartVMM, v.temp); err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}
