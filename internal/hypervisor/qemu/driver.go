//go:build linux

package qemu

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"bake/internal/hypervisor"
)

// Name is what --hypervisor calls this driver.
const Name = "qemu"

// maxDisks is how many disks and shares a VM may have: a rootfs, an ephemeral
// disk and 20 volumes.
const maxDisks = 22

// maxMMIO is how many of them a microvm takes without a PCI bus: with those that
// every VM has (random numbers, vsock, balloon) 19. It leaves the first
// virtio-mmio transport alone, whose interrupts do not arrive under TCG (seen
// with QEMU 7.2: 24 transports, taken from the last one down).
const maxMMIO = 16

// A Driver runs VMs with one QEMU. It must not be copied after its first use.
type Driver struct {
	// Command is what to execute, with the arguments that come before
	// QEMU's own: a path, or a loader, its arguments and a path. If it is
	// empty, $BAKE_QEMU or a QEMU on PATH is used.
	Command []string
	// Env is added to QEMU's environment.
	Env []string
	// Arch is the guests' architecture, a GOARCH. Empty means the host's.
	Arch string
	// Accel is kvm, tcg or empty for the better one that works. Empty means
	// $BAKE_QEMU_ACCEL.
	Accel string
	// Machine is microvm or q35 (amd64 guests), or empty for microvm where
	// QEMU and the host have what it takes.
	Machine string
	// CacheDir keeps what was found out about QEMU and KVM for later
	// processes. If it is empty, nothing is kept.
	CacheDir string
	// Warnf, if not nil, is told what the user should know: at most one line
	// for a driver.
	Warnf func(format string, args ...any)
	// Verbose tells Warnf in detail how KVM fails.
	Verbose bool

	mu      sync.Mutex
	program *program      // what was found, nil before
	accel   *acceleration // the last decision, for one kernel
	warned  bool

	// For tests.
	kvmDevice   string
	probeLimits *probeLimits
}

var _ hypervisor.Driver = (*Driver)(nil)

// Name is "qemu".
func (d *Driver) Name() string { return Name }

// Capabilities says what the driver can do. It asks QEMU, if nobody did so
// before. QEMU serves no files by itself.
func (d *Driver) Capabilities() hypervisor.Capabilities {
	return hypervisor.Capabilities{DiskOffset: true, MaxDisks: maxDisks, VhostUserFS: d.shares(), ReturnsMemory: d.returnsMemory()}
}

// Available says whether a QEMU was found that has what a VM needs. Without
// KVM it is available too, but slow.
func (d *Driver) Available(ctx context.Context) error {
	p, err := d.find(ctx)
	if err == nil {
		_, err = d.kind(p)
	}
	return err
}

// Describe says which machine New would make. It may boot the kernel for a
// moment, to see whether KVM runs it, if nobody did so before.
func (d *Driver) Describe(ctx context.Context, cfg hypervisor.Config) (hypervisor.Description, error) {
	m, err := d.plan(ctx, cfg)
	if err != nil {
		return hypervisor.Description{}, err
	}
	if err := m.setClock(); err != nil {
		return hypervisor.Description{}, err
	}
	desc := hypervisor.Description{
		Hypervisor:    Name,
		Accelerator:   m.accel,
		Machine:       m.kind,
		Arch:          m.arch,
		CPUs:          m.cpus,
		MemoryMiB:     cfg.MemoryMiB,
		ReturnsMemory: m.balloon,
		CommandLine:   m.commandLine(),
		Command:       m.command(),
		Disks:         []hypervisor.DescribedDisk{},
	}
	for _, disk := range cfg.Disks {
		dd := hypervisor.DescribedDisk{Name: disk.Resource.Name, ReadOnly: disk.ReadOnly}
		dd.Offset, dd.Size, err = window(disk.Resource)
		if err != nil {
			return hypervisor.Description{}, err
		}
		if disk.Resource.File != nil {
			dd.Path = disk.Resource.File.Name()
		}
		desc.Disks = append(desc.Disks, dd)
	}
	for _, share := range cfg.Shares {
		desc.Shares = append(desc.Shares, share.Tag)
	}
	return desc, nil
}

// New checks cfg and takes what the VM needs: it finds QEMU, decides on the
// accelerator, and turns bytes and windows that QEMU must see as whole files
// into memory files.
func (d *Driver) New(ctx context.Context, cfg hypervisor.Config) (hypervisor.VM, error) {
	m, err := d.plan(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return newVM(m, cfg)
}

// plan checks cfg and decides everything about the machine but the clock.
func (d *Driver) plan(ctx context.Context, cfg hypervisor.Config) (*machine, error) {
	if err := d.check(cfg); err != nil {
		return nil, err
	}
	bin, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	kind, err := d.kind(bin)
	if err != nil {
		return nil, err
	}
	if len(cfg.Shares) > 0 && !bin.shares(kind) {
		return nil, fmt.Errorf("%s (%s) has no vhost-user-fs device for its %s machine, which virtiofs needs: use --volume-mode 9p",
			bin.name(), bin.facts.Version, kind)
	}
	if n := len(cfg.Disks) + len(cfg.Shares); needsPCI(kind, cfg) && !bin.pci(len(cfg.Shares) > 0) {
		return nil, fmt.Errorf("%s (%s) has no vhost-user devices for PCI, which a VM with %d disks and shares needs: give it at most %d, or install a QEMU that was built with them",
			bin.name(), bin.facts.Version, n, maxMMIO)
	}
	accel, err := d.accelerator(ctx, bin, kind, cfg.Kernel)
	if err != nil {
		return nil, err
	}
	return newMachine(bin, kind, accel, d.Env, cfg)
}

// needsPCI says whether a microvm must have a PCI bus. Under TCG that makes a
// boot take a quarter more of the processor's time, and q35 would double it
// (with 22 disks 1.1 s and 1.8 s, and 0.9 s with 16 and no PCI bus), so what
// needs none does without.
func needsPCI(kind string, cfg hypervisor.Config) bool {
	return kind == machineMicroVM && len(cfg.Disks)+len(cfg.Shares) > maxMMIO
}

// pci says whether QEMU has the vhost-user devices for PCI.
func (p *program) pci(shares bool) bool {
	return p.facts.VsockPCI && (p.facts.FSPCI || !shares)
}

// arch is the guests' architecture.
func (d *Driver) arch() string {
	if d.Arch == "" {
		return runtime.GOARCH
	}
	return d.Arch
}

// kind chooses QEMU's machine type.
func (d *Driver) kind(p *program) (string, error) {
	microVM := p.facts.MicroVM && p.facts.VsockMMIO
	kind := machineQ35
	switch {
	case d.arch() == "arm64":
		kind = machineVirt
	case d.Machine == "":
		// Without a counter of the host's to pass on, TCG's microvm has no
		// clock to calibrate by; and some distributions build QEMU without it.
		if microVM && runtime.GOARCH == "amd64" {
			kind = machineMicroVM
		}
	case d.Machine == machineMicroVM || d.Machine == machineQ35:
		kind = d.Machine
	default:
		return "", fmt.Errorf("there is no QEMU machine called %q here: choose %s or %s", d.Machine, machineMicroVM, machineQ35)
	}
	if kind == machineMicroVM && !microVM || kind != machineMicroVM && !p.facts.VsockPCI {
		return "", fmt.Errorf("%s (%s) has no vhost-user-vsock device for its %s machine, and bake talks to the guest by that: install a QEMU from 5.1 on that was built with vhost-user",
			p.name(), p.facts.Version, kind)
	}
	return kind, nil
}

func (d *Driver) warn(format string, args ...any) {
	if d.Warnf != nil && !d.warned {
		d.warned = true
		d.Warnf(format, args...)
	}
}
