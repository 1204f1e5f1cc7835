//go:build linux

package hostnet

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A link is netstack's side of the device. It says that the other end checks
// and computes checksums and cuts segments, which means that nobody does: the
// kernel takes a packet that is not yet cut or summed as it is.
type link struct {
	device     *device
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

var _ stack.GSOEndpoint = (*link)(nil)

func (l *link) MTU() uint32                             { return uint32(l.device.mtu) }
func (l *link) SetMTU(uint32)                           {}
func (l *link) MaxHeaderLength() uint16                 { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress          { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) Close()                                  {}
func (l *link) Wait()                                   {}
func (l *link) SetOnCloseAction(func())                 {}
func (l *link) IsAttached() bool                        { return l.dispatcher.Load() != nil }
func (l *link) GSOMaxSize() uint32                      { return gsoMaxSize }
func (l *link) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityTXChecksumOffload | stack.CapabilityRXChecksumOffload
}

func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// maxPieces is how many pieces of memory one packet is written from. Netstack
// joins what was written to a connection in small pieces.
const maxPieces = 64

// WritePackets sends netstack's packets. One that the kernel cannot take now is
// lost and sent again by TCP.
func (l *link) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	list := packets.AsSlice()
	for i, p := range list {
		if refusesSYN(p) {
			continue
		}
		if err := l.writePacket(p); err != nil {
			return i, &tcpip.ErrNoBufferSpace{}
		}
	}
	return len(list), nil
}

// refusesSYN says that a packet is netstack's refusal of a SYN (RFC 9293,
// 3.10.7.1): we refuse what is to be refused, see [tcpService.refuse]. A SYN
// that uses a port anew waits with the endpoint that had it before while that
// handles the last ACK, and once closed netstack looks for a listener for it
// and never asks the forwarder. Without this answer the guest sends its SYN
// again. Guests come to it that make so many connections that their kernel has
// no place for all that are in TIME_WAIT (tcp_max_tw_buckets of ip-sysctl.rst).
func refusesSYN(p *stack.PacketBuffer) bool {
	segment := header.TCP(p.TransportHeader().Slice())
	return p.TransportProtocolNumber == header.TCPProtocolNumber && len(segment) >= header.TCPMinimumSize &&
		segment.Flags() == header.TCPFlagRst|header.TCPFlagAck && segment.SequenceNumber() == 0
}

func (l *link) writePacket(p *stack.PacketBuffer) error {
	var head [vnetSize]byte
	h := l.vnet(p)
	h.put(&head)
	var pieces [maxPieces]unix.Iovec
	pieces[0] = unix.Iovec{Base: &head[0], Len: vnetSize}
	n := 1
	views, skip := p.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		b, skip = b[skip:], 0
		if n == maxPieces {
			return l.writeJoined(p, h)
		}
		pieces[n] = unix.Iovec{Base: &b[0], Len: uint64(len(b))}
		n++
	}
	return l.device.writeVector(pieces[:n])
}

// writeJoined writes a packet of many pieces.
func (l *link) writeJoined(p *stack.PacketBuffer, h vnetHeader) error {
	b := p.ToBuffer()
	defer b.Release()
	return l.device.write(h, b.Flatten(), nil)
}

// vnet says what the kernel need not do.
func (l *link) vnet(p *stack.PacketBuffer) vnetHeader {
	if p.TransportProtocolNumber != header.TCPProtocolNumber {
		return vnetHeader{}
	}
	network, transport := p.NetworkHeader().Slice(), p.TransportHeader().Slice()
	h := vnetHeader{
		flags:     unix.VIRTIO_NET_HDR_F_NEEDS_CSUM,
		headerLen: uint16(len(network) + len(transport)),
		csumStart: uint16(len(network)), csumOffs: header.TCPChecksumOffset,
	}
	gso := p.GSOOptions
	size := p.Data().Size()
	if gso.Type == stack.GSONone || !gso.NeedsCsum {
		// RST and its like come without a sum.
		var s uint64
		if p.NetworkProtocolNumber == header.IPv4ProtocolNumber {
			s = pseudoSum(network[12:16], network[16:20], protoTCP, len(transport)+size)
		} else {
			s = pseudoSum(network[8:24], network[24:40], protoTCP, len(transport)+size)
		}
		binary.BigEndian.PutUint16(transport[header.TCPChecksumOffset:], fold(s))
	}
	if gso.MSS > 0 && size > int(gso.MSS) {
		h.gsoSize = gso.MSS
		switch gso.Type {
		case stack.GSOTCPv4:
			h.gsoType = unix.VIRTIO_NET_HDR_GSO_TCPV4
		case stack.GSOTCPv6:
			h.gsoType = unix.VIRTIO_NET_HDR_GSO_TCPV6
		}
	}
	return h
}
