//go:build linux

package hostnet

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// viewSize is the largest of the buffers that netstack uses again, and room
	// for every packet.
	viewSize = buffer.MaxChunkSize
	// smallPacket is what is copied rather than given away with its buffer: it
	// may lie in an application's receive queue for long.
	smallPacket = 4 << 10
)

// A receiver takes the guest's packets from the device.
type receiver struct {
	h        *Hostnet
	view     *buffer.View // where the next packet goes
	head     [vnetSize]byte
	fragment reassembler
}

// run reads until the device is closed. All packets that are there are read
// before anybody else runs, so that what they cause (an acknowledgement, above
// all) is caused once for all of them.
func (r *receiver) run() {
	defer func() {
		if r.view != nil {
			r.view.Release()
		}
	}()
	_ = r.h.device.raw.Read(func(fd uintptr) bool {
		for {
			if r.view == nil {
				r.view = buffer.NewViewSize(viewSize)
			}
			n, errno := readPacket(fd, &r.head, r.view.AsSlice())
			switch {
			case errno == unix.EAGAIN:
				return false
			case errno != 0:
				// A device that is down has nothing to read, and may come up.
				return errno != unix.EIO && !r.pause(errno)
			case n > 0 && n <= viewSize:
				r.packet(n)
			}
		}
	})
}

// pause keeps a device that fails for good from taking the processor. It
// reports false when the device is to be read on.
func (r *receiver) pause(syscall.Errno) bool {
	select {
	case <-r.h.ctx.Done():
		return true
	case <-time.After(10 * time.Millisecond):
		return false
	}
}

// packet is one packet in the first n bytes of the view.
func (r *receiver) packet(n int) {
	b := r.view.AsSlice()[:n]
	p, ok := parsePacket(b)
	if !ok || !p.dst.IsGlobalUnicast() && !p.dst.IsLinkLocalUnicast() && !p.dst.IsLoopback() || p.dst.Is6() && !r.h.network.IPv6.IsValid() {
		return // multicast and its like lead nowhere
	}
	if p.ttl <= 1 && !r.h.isHost(p.dst) {
		r.h.unreachable(r.h.hostOf(p.dst), quote{p.src, p.dst, p.bytes}, expired)
		return
	}
	if p.fragment.is {
		// What was cut here was not TCP, which cuts itself.
		if p, ok = r.fragment.add(&p, time.Now()); !ok {
			return
		}
		r.h.datagram(&p, 0)
		return
	}
	if p.proto == protoTCP {
		r.inject(n)
		return
	}
	r.h.datagram(&p, udpSegment(&r.head))
}

// inject gives the packet to netstack, with its buffer unless it is small.
func (r *receiver) inject(n int) {
	d := r.h.tcp.dispatcher()
	if d == nil {
		return
	}
	var v *buffer.View
	if n <= smallPacket {
		v = buffer.NewViewWithData(r.view.AsSlice()[:n])
	} else {
		v, r.view = r.view, nil
		v.CapLength(n)
	}
	protocol := tcpip.NetworkProtocolNumber(header.IPv4ProtocolNumber)
	if v.AsSlice()[0]>>4 == 6 {
		protocol = header.IPv6ProtocolNumber
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	d.DeliverNetworkPacket(protocol, p)
	p.DecRef()
}
