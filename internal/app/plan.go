package app

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"

	"bake/internal/hypervisor"
	"bake/internal/payload"
	"bake/internal/policy"
	"bake/internal/service/forward"
	"bake/internal/wgconf"
	"bake/internal/wire"
)

// A plan is the VM and what its agent will be told, before anything is opened
// that needs cleaning up.
type plan struct {
	config   hypervisor.Config
	manifest wire.BootManifest
	// ephemeralMiB is the size of the second disk.
	ephemeralMiB int
	stopSignal   string
	// policy is what the guest may reach.
	policy *policy.Policy
	// ports are to be published; unpublished is what the image exposes and
	// cannot be.
	ports       []forward.Port
	unpublished []string
	// wireGuard is nil without a tunnel.
	wireGuard *wgconf.Config
	// volumes are in the order of manifest.Volumes.
	volumes []plannedVolume
	// warnings are for the user, before the VM starts.
	warnings []string
}

// ephemeralSize is in bytes.
func (p *plan) ephemeralSize() int64 { return int64(p.ephemeralMiB) << 20 }

// The guest's disks, in the order of hypervisor.Config.Disks.
const (
	rootfsDevice    = "/dev/vda"
	ephemeralDevice = "/dev/vdb"
)

// sector is the unit of a block device, in bytes.
const sector = 512

// newPlan joins the embedded defaults, the user's options and what the driver
// and the host can do; ipv6 says that the host reaches the internet with it.
// The ephemeral disk's Resource and Dir are still empty.
func newPlan(img *Image, o Options, environ []string, caps hypervisor.Capabilities, ipv6 bool) (*plan, error) {
	m := img.Manifest
	proc, err := process(m.Process, o, environ)
	if err != nil {
		return nil, err
	}
	pl := &plan{
		ephemeralMiB: cmp.Or(o.EphemeralDiskMiB, m.Defaults.EphemeralDiskMiB, DefaultEphemeralDiskMiB),
		stopSignal:   m.Process.StopSignal,
	}
	if pl.policy, err = networkPolicy(m.Network, o); err != nil {
		return nil, err
	}
	if pl.ports, pl.unpublished, err = publishedPorts(m.Process.ExposedPorts, o); err != nil {
		return nil, err
	}
	pl.config = hypervisor.Config{
		Arch:        m.Target.Arch,
		CPUs:        cmp.Or(o.CPUs, m.Defaults.CPUs),
		MemoryMiB:   cmp.Or(o.MemoryMiB, m.Defaults.MemoryMiB, DefaultMemoryMiB),
		CommandLine: commandLine(m.Defaults.BootArgs, o),
	}
	if pl.config.CPUs == 0 {
		// A second emulated processor costs a start a third more time, and
		// QEMU's emulation of several loses races when Linux patches its own
		// code: one boot in a hundred died of it (QEMU 7.2).
		pl.config.CPUs, pl.config.EmulatedCPUs = runtime.NumCPU(), 1
	}
	if pl.config.Kernel, err = resource(img, payload.PartKernel); err != nil {
		return nil, err
	}
	if pl.config.Initrd, err = resource(img, payload.PartInitrd); err != nil {
		return nil, err
	}
	rootfs, err := resource(img, payload.PartRootfs)
	if err != nil {
		return nil, err
	}
	// A block device has whole sectors; the part's padding makes up the rest.
	rootfs.Size = (rootfs.Size + sector - 1) / sector * sector
	guest := wire.Rootfs{Device: rootfsDevice, Type: m.Rootfs.Type}
	if !caps.DiskOffset {
		guest.Offset, guest.Size = rootfs.Offset, rootfs.Size
		rootfs.Offset, rootfs.Size = 0, -1
	}
	pl.config.Disks = []hypervisor.Disk{
		{Resource: rootfs, ReadOnly: true},
		{Resource: hypervisor.Resource{Name: "ephemeral", Size: pl.ephemeralSize()}},
	}
	pl.manifest = wire.BootManifest{
		Version:   wire.ManifestVersion,
		Hostname:  "bake",
		Rootfs:    guest,
		Ephemeral: wire.Ephemeral{Device: ephemeralDevice, Type: "ext4"},
		Process:   proc,
		Health:    health(m.Process.Healthcheck, o.Health),
		Verbose:   o.Verbose,
		NoReboot:  o.NoReboot,
	}
	if !pl.policy.Disabled() {
		pl.manifest.Network = wire.DefaultNetwork(ipv6)
	}
	if err := pl.addVolumes(o.Volumes, caps); err != nil {
		return nil, err
	}
	if err := pl.addWireGuard(o.WireGuard, o.Proxy); err != nil {
		return nil, err
	}
	return pl, nil
}

// resource is a part of the app's own file: nothing is copied.
func resource(img *Image, part string) (hypervisor.Resource, error) {
	off, size, err := img.File.FileOffset(part)
	if err != nil {
		return hypervisor.Resource{}, fmt.Errorf("this app cannot boot: %w; build it again", err)
	}
	return hypervisor.Resource{Name: part, File: img.File.OSFile(), Offset: off, Size: size}, nil
}

// commandLine is the user's part of the kernel command line; the driver adds
// what its machine needs.
func commandLine(embedded string, o Options) string {
	args := strings.Fields(embedded)
	if o.BootArgs != nil {
		args = strings.Fields(*o.BootArgs)
	}
	if !o.Verbose {
		args = append(args, "quiet")
	}
	return strings.Join(args, " ")
}
