//go:build linux

package hostnet

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// trainLimit bounds the datagrams of a train: each is a piece of memory that
// the packet is written from, behind two of headers.
const trainLimit = maxPieces - 2

// A Train delivers datagrams from the host, many with one packet where they
// allow it: those of one source and destination that follow each other and
// have one length, the last of which may be shorter, are what the kernel takes
// for one segmented packet (UDP_SEGMENT of udp(7), the other way round). It
// cuts that where it meets the socket, which costs far less than to carry them
// one by one. A Train has one user at a time.
type Train struct {
	h                   *Hostnet
	source, destination netip.AddrPort
	payloads            [][]byte
	total               int  // of payloads, in bytes
	last                bool // payloads has a shorter one: nothing can follow
}

// NewTrain returns an empty train.
func (h *Hostnet) NewTrain() *Train {
	return &Train{h: h, payloads: make([][]byte, 0, trainLimit)}
}

// Add delivers d at the next Flush, until which its payload must stay, or
// before.
func (t *Train) Add(d *wire.Datagram) {
	if !t.h.segments || d.Kind != wire.DatagramUDP || !t.h.deliverable(d) || len(d.Payload) == 0 {
		t.Flush() // what came before goes before
		t.h.Deliver(d)
		return
	}
	if len(t.payloads) > 0 && !t.fits(d) {
		t.Flush()
	}
	if len(t.payloads) == 0 {
		t.source, t.destination = d.Source, d.Destination
	}
	t.last = len(t.payloads) > 0 && len(d.Payload) < len(t.payloads[0])
	t.payloads = append(t.payloads, d.Payload)
	t.total += len(d.Payload)
}

// fits says that d can be part of the packet that is there.
func (t *Train) fits(d *wire.Datagram) bool {
	return !t.last && len(t.payloads) < trainLimit && len(d.Payload) <= len(t.payloads[0]) &&
		t.total+len(d.Payload) <= wire.MaxDatagram && d.Source == t.source && d.Destination == t.destination
}

// Flush delivers what was added.
func (t *Train) Flush() {
	switch len(t.payloads) {
	case 0:
		return
	case 1:
		_ = t.h.writeUDP(t.source, t.destination, t.payloads)
	default:
		err := t.h.writeUDP(t.source, t.destination, t.payloads)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS) {
			// This kernel does not take it so, or not now.
			for i := range t.payloads {
				_ = t.h.writeUDP(t.source, t.destination, t.payloads[i:i+1])
			}
		}
	}
	clear(t.payloads)
	t.payloads, t.total, t.last = t.payloads[:0], 0, false
}
