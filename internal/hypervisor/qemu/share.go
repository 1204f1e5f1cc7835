//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"

	"bake/internal/hypervisor"
)

const (
	// maxTag is what the device's configuration space has room for (virtio 1.2,
	// 5.11.4).
	maxTag = 36
	// shareQueue is how many descriptors a queue of a file system device has:
	// QEMU's limit. Linux makes no request with more pages than that, and then
	// 1 MiB fits into one.
	shareQueue = 1024
)

// shares says whether QEMU has the file system device for a machine.
func (p *program) shares(kind string) bool {
	if kind == machineMicroVM {
		return p.facts.FSMMIO
	}
	return p.facts.FSPCI
}

// shares says whether the machine that the driver makes may have shares.
func (d *Driver) shares() bool {
	p, err := d.find(context.Background())
	if err != nil {
		return false
	}
	kind, err := d.kind(p)
	return err == nil && p.shares(kind)
}

// share is the arguments for one file system device, whose back end is on an
// inherited socket. QEMU gives it a place that is free.
func (m *machine) share(i int, tag string, fd int) []string {
	bus := "device"
	if m.pci() {
		bus = "pci"
	}
	return []string{
		"-chardev", fmt.Sprintf("socket,id=share%d,fd=%d", i, fd),
		"-device", fmt.Sprintf("vhost-user-fs-%s,chardev=share%d,tag=%s,queue-size=%d", bus, i, tag, shareQueue),
	}
}

// checkShares refuses what QEMU would refuse with less clear words.
func checkShares(cfg hypervisor.Config) error {
	// Each is a device on the same bus as the disks.
	if n := len(cfg.Disks) + len(cfg.Shares); len(cfg.Shares) > 0 && n > maxDisks {
		return fmt.Errorf("a VM cannot have %d disks and shares: QEMU's machine takes %d here", n, maxDisks)
	}
	seen := map[string]bool{}
	for i, share := range cfg.Shares {
		if err := checkShare(share); err != nil {
			return fmt.Errorf("share %d (%q): %w", i, share.Tag, err)
		}
		if seen[share.Tag] {
			return fmt.Errorf("share %d: the tag %q is used twice", i, share.Tag)
		}
		seen[share.Tag] = true
	}
	return nil
}

func checkShare(share hypervisor.Share) error {
	if n := len(share.Tag); n < 1 || n > maxTag {
		return fmt.Errorf("its tag has %d bytes; 1 to %d are possible", n, maxTag)
	}
	for _, c := range []byte(share.Tag) {
		// A comma would begin another option of QEMU's.
		if c <= ' ' || c >= 0x7f || c == ',' {
			return fmt.Errorf("its tag has a byte %#02x in it", c)
		}
	}
	if share.Socket == nil {
		return errors.New("QEMU needs the socket of a vhost-user back end for it")
	}
	return nil
}
