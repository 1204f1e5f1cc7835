//go:build linux

package qemu

import "context"

// balloonOptions make a balloon that is never inflated: it is there for free
// page reporting alone (virtio 1.2, 5.5.6.7). The guest names memory that it
// has no use for, in pieces of 2 MiB or more and some seconds after it was
// freed, and QEMU punches holes into the file that is the guest's memory. What
// the guest takes of it again is zero, as memory of a memfd is that nobody has
// written yet, for all who map it: the vhost-user back ends need not know.
// Every QEMU with a vhost-user vsock device has it: both came with 5.1.
const balloonOptions = "free-page-reporting=on"

// balloon says whether QEMU has the device for a bus.
func (p *program) balloon(pci bool) bool {
	if pci {
		return p.facts.BalloonPCI
	}
	return p.facts.BalloonMMIO
}

// returnsMemory says whether the machine that the driver makes has a balloon.
func (d *Driver) returnsMemory() bool {
	p, err := d.find(context.Background())
	if err != nil {
		return false
	}
	kind, err := d.kind(p)
	return err == nil && p.balloon(kind != machineMicroVM)
}
