//go:build linux

package hostnet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// pipeRig has a netstack for a guest, and a socket pair for a device.
func pipeRig(t *testing.T) *rig {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var files [2]*os.File
	for i, fd := range pair {
		for _, option := range []int{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF} {
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 8<<20) == nil {
				break
			}
		}
		files[i] = os.NewFile(uintptr(fd), "device")
	}
	host := newHost(t)
	h, err := serve(t.Context(), files[0], network, host.options())
	if err != nil {
		t.Fatal(err)
	}
	host.h = h
	g := newPipeGuest(t, files[1])
	t.Cleanup(h.Close)
	return &rig{guest: g, h: h, host: host}
}

type pipeGuest struct{ stack *stack.Stack }

func newPipeGuest(t *testing.T, f *os.File) *pipeGuest {
	d, err := newDevice(f, network.MTU)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{device: d}
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	if err := s.CreateNIC(nic, l); err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{network.IPv4, network.IPv6} {
		protocol := tcpip.ProtocolAddress{Protocol: number(a), AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix()}
		if err := s.AddProtocolAddress(nic, protocol, stack.AddressProperties{}); err != nil {
			t.Fatal(err)
		}
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		receivePipe(l)
	}()
	t.Cleanup(func() {
		d.close()
		<-done
		s.Destroy()
	})
	return &pipeGuest{s}
}

func receivePipe(l *link) {
	var head [vnetSize]byte
	b := make([]byte, 70000)
	_ = l.device.raw.Read(func(fd uintptr) bool {
		for {
			n, errno := readPacket(fd, &head, b)
			if errno == unix.EAGAIN {
				return false
			}
			if errno != 0 || n == 0 {
				return true
			}
			protocol := header.IPv4ProtocolNumber
			if b[0]>>4 == 6 {
				protocol = header.IPv6ProtocolNumber
			}
			p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b[:n])})
			(*l.dispatcher.Load()).DeliverNetworkPacket(protocol, p)
			p.DecRef()
		}
	})
}

func number(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

type pipeTCP struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

func (c pipeTCP) Reset() { c.ep.Abort() }

func (g *pipeGuest) DialTCP(to netip.AddrPort) (tcpConn, error) {
	var q waiter.Queue
	ep, terr := g.stack.NewEndpoint(tcp.ProtocolNumber, number(to.Addr()), &q)
	if terr != nil {
		return nil, errors.New(terr.String())
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	q.EventRegister(&entry)
	defer q.EventUnregister(&entry)
	terr = ep.Connect(full(to))
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		<-ready
		terr = ep.LastError()
	}
	if terr != nil {
		ep.Close()
		return nil, errno(terr)
	}
	return pipeTCP{gonet.NewTCPConn(&q, ep), ep}, nil
}

func (g *pipeGuest) DialUDP(to netip.AddrPort) (net.Conn, error) {
	remote := full(to)
	return gonet.DialUDP(g.stack, nil, &remote, number(to.Addr()))
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

func errno(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrHostUnreachable:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable:
		return syscall.ENETUNREACH
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	}
	return errors.New(err.String())
}
