package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"bake/internal/hypervisor"
)

// A Driver makes VMs whose guest is a function.
type Driver struct {
	// Guest is what every VM runs. It ends when it returns, and should when
	// ctx ends: the VM is being stopped by force. A guest that returns without
	// having called an ending method of m is like one that crashed the VMM.
	Guest func(ctx context.Context, m *Machine)
	// DriverName is the driver's name; empty means fake.
	DriverName string
	// Unavailable, if not nil, is what Available says.
	Unavailable error
}

var _ hypervisor.Driver = (*Driver)(nil)

// maxDisks is arbitrary.
const maxDisks = 16

// Name is the driver's name.
func (d *Driver) Name() string {
	if d.DriverName == "" {
		return "fake"
	}
	return d.DriverName
}

// Available says what the test wants.
func (d *Driver) Available(context.Context) error { return d.Unavailable }

// Capabilities are those of QEMU without file system devices.
func (d *Driver) Capabilities() hypervisor.Capabilities {
	return hypervisor.Capabilities{DiskOffset: true, MaxDisks: maxDisks}
}

// Describe repeats the configuration.
func (d *Driver) Describe(_ context.Context, cfg hypervisor.Config) (hypervisor.Description, error) {
	disks, err := openDisks(cfg)
	if err != nil {
		return hypervisor.Description{}, err
	}
	desc := hypervisor.Description{
		Hypervisor:  d.Name(),
		Arch:        cfg.Arch,
		CPUs:        cfg.CPUs,
		MemoryMiB:   cfg.MemoryMiB,
		CommandLine: cfg.CommandLine,
		Disks:       []hypervisor.DescribedDisk{},
	}
	for i, disk := range cfg.Disks {
		dd := hypervisor.DescribedDisk{Name: disk.Resource.Name, Offset: disk.Resource.Offset, Size: disks[i].size, ReadOnly: disk.ReadOnly}
		if disk.Resource.File != nil {
			dd.Path = disk.Resource.File.Name()
		}
		desc.Disks = append(desc.Disks, dd)
	}
	return desc, nil
}

// New checks what every driver checks. The kernel and the initrd may be
// empty.
func (d *Driver) New(ctx context.Context, cfg hypervisor.Config) (hypervisor.VM, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.Guest == nil {
		return nil, errors.New("the fake driver has no guest to run")
	}
	if cfg.CPUs < 1 {
		return nil, fmt.Errorf("a VM cannot have %d CPUs: give --cpus a number from 1 on", cfg.CPUs)
	}
	if cfg.MemoryMiB < 1 {
		return nil, fmt.Errorf("%d MiB of memory are too little: give --memory more", cfg.MemoryMiB)
	}
	if len(cfg.Shares) > 0 {
		return nil, errors.New("the fake driver has no shares")
	}
	disks, err := openDisks(cfg)
	if err != nil {
		return nil, err
	}
	console := cfg.Console
	if console == nil {
		console = io.Discard
	}
	vm := &VM{guest: d.Guest, done: make(chan struct{})}
	vm.machine = &Machine{cfg: cfg, disks: disks, console: console, host: newPorts(false), guest: newPorts(true)}
	return vm, nil
}

func openDisks(cfg hypervisor.Config) ([]disk, error) {
	if len(cfg.Disks) > maxDisks {
		return nil, fmt.Errorf("a VM cannot have %d disks", len(cfg.Disks))
	}
	var disks []disk
	for _, d := range cfg.Disks {
		r := d.Resource
		size := r.Size
		switch {
		case r.File == nil && !d.ReadOnly:
			return nil, fmt.Errorf("disk %s: a disk made of bytes must be read-only", r.Name)
		case r.File == nil:
			disks = append(disks, disk{r: strings.NewReader(string(r.Bytes)), size: int64(len(r.Bytes)), readOnly: true})
			continue
		}
		st, err := r.File.Stat()
		if err != nil {
			return nil, fmt.Errorf("disk %s cannot be read: %w", r.Name, err)
		}
		if size == -1 {
			size = st.Size() - r.Offset
		}
		if r.Offset < 0 || size < 0 || r.Offset > math.MaxInt64-size || r.Offset+size > st.Size() {
			return nil, fmt.Errorf("disk %s takes %d bytes from byte %d of a file of %d bytes", r.Name, size, r.Offset, st.Size())
		}
		disks = append(disks, disk{r: r.File, w: r.File, offset: r.Offset, size: size, readOnly: d.ReadOnly})
	}
	return disks, nil
}
