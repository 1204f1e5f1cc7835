//go:build linux

package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"bake/internal/hypervisor"
)

const (
	accelKVM = "kvm"
	accelTCG = "tcg"
)

// acceleration is a decision for one kernel.
type acceleration struct {
	kernel string // its identity
	accel  string
}

// accelerator decides between KVM and TCG, with a warning if it is TCG for
// another reason than that the user wants it.
func (d *Driver) accelerator(ctx context.Context, bin *program, kind string, kernel hypervisor.Resource) (string, error) {
	wanted := d.Accel
	if wanted == "" {
		wanted = os.Getenv("BAKE_QEMU_ACCEL")
	}
	switch wanted {
	case accelKVM, accelTCG:
		return wanted, nil
	case "":
	default:
		return "", fmt.Errorf("there is no accelerator called %q: set BAKE_QEMU_ACCEL to %s or %s", wanted, accelKVM, accelTCG)
	}
	id, err := kernelIdentity(kernel)
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.accel != nil && d.accel.kernel == id {
		return d.accel.accel, nil
	}
	accel := accelKVM
	if reason := d.whyNotKVM(ctx, bin, kind, kernel, id); reason != nil {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if !bin.facts.TCG {
			return "", fmt.Errorf("%w; and this QEMU (%s) cannot do without KVM: `apt install qemu-system-x86` has one that can", reason, bin.name())
		}
		d.warn("%v; the guest is emulated and runs many times slower", reason)
		accel = accelTCG
	}
	d.accel = &acceleration{kernel: id, accel: accel}
	return accel, nil
}

// whyNotKVM is nil if KVM runs this kernel here.
func (d *Driver) whyNotKVM(ctx context.Context, bin *program, kind string, kernel hypervisor.Resource, id string) error {
	if d.arch() != runtime.GOARCH {
		return fmt.Errorf("the guest is for %s and this machine is not, so KVM cannot run it", d.arch())
	}
	device := cmp.Or(d.kvmDevice, "/dev/kvm")
	kvm, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return whyNoDevice(err)
	}
	kvm.Close()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		boot = nil // without /proc nothing can be kept
	}
	entry := verdict{}
	name := strings.Join([]string{"kvm", bin.key, kind, id}, "-")
	known := len(boot) > 0 && readCache(d.CacheDir, name, &entry) && entry.Boot == string(boot)
	if !known {
		entry = verdict{Boot: string(boot)}
		if err := d.probeKVM(ctx, bin, kind, kernel); err != nil {
			entry.Problem = err.Error()
		}
		if ctx.Err() == nil && len(boot) > 0 {
			writeCache(d.CacheDir, name, entry)
		}
	}
	switch {
	case entry.Problem == "":
		return nil
	case d.Verbose:
		return fmt.Errorf("KVM does not run this guest's kernel here (%s)", entry.Problem)
	}
	return errors.New("KVM does not run this guest's kernel here (--verbose says how it fails)")
}

// A verdict is what a probe boot found, in the cache. It holds until the host
// boots again.
type verdict struct {
	Boot    string `json:"boot"`
	Problem string `json:"problem,omitempty"`
}

// whyNoDevice says why /dev/kvm cannot be opened and what would cure it.
func whyNoDevice(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no /dev/kvm (switch on virtualization in the firmware, or nested virtualization in the host of this machine)")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("you may not use /dev/kvm (cure: sudo usermod -aG kvm $USER, and log in again)")
	}
	return fmt.Errorf("/dev/kvm cannot be used (%w)", err)
}
