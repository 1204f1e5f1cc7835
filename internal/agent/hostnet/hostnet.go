//go:build linux

package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"bake/internal/wire"
)

// MaxConns is how many TCP connections there are at once, those included that
// the host has not connected yet. A SYN beyond is not answered, so that the
// guest's kernel tries again.
const MaxConns = 8192

// Options are the ways to the host.
type Options struct {
	// DialTCP has the host connect and returns a stream in the frames of package
	// relay, of which nothing is read or written yet. It must be a
	// [syscall.Conn]. An error is an errno (errors.Is) where the host gave one:
	// ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT, EPERM.
	DialTCP func(context.Context, netip.AddrPort) (net.Conn, error)
	// Datagrams takes what the guest sends besides TCP.
	Datagrams Sender
	// Failed is told if TCP cannot be started, which is tried when the guest
	// first needs it. It may be nil.
	Failed func(error)
}

// A Sender sends datagrams to the host. Send waits a moment at most, keeps nothing of
// what it is given, and drops what it cannot take.
type Sender interface{ Send(*wire.Datagram) }

// Hostnet is the running network.
type Hostnet struct {
	ctx       context.Context
	cancel    context.CancelFunc
	network   wire.Network
	datagrams Sender
	device    *device
	segments  bool // the device takes segmented UDP packets: see Train
	tcp       *tcpService
	receiving sync.WaitGroup
}

// Start makes the network interface and serves it until ctx ends or Close.
// The guest can use it when Start returns.
func Start(ctx context.Context, n *wire.Network, o Options) (*Hostnet, error) {
	if err := check(n); err != nil {
		return nil, err
	}
	f, segments, err := openTUN(Interface)
	if err != nil {
		return nil, err
	}
	if err := configure(Interface, n); err != nil {
		f.Close()
		return nil, err
	}
	h, err := serve(ctx, f, n, o)
	if err != nil {
		return nil, err
	}
	h.segments = segments
	return h, nil
}

// check refuses what the rest takes for granted.
func check(n *wire.Network) error {
	switch {
	case n.MTU < header.IPv6MinimumMTU || n.MTU > wire.MaxMTU:
		return fmt.Errorf("the boot manifest gives the guest's network an MTU of %d; it must be between %d and %d", n.MTU, header.IPv6MinimumMTU, wire.MaxMTU)
	case !n.IPv4.Is4() || !n.HostIPv4.Is4():
		return errors.New("the boot manifest gives the guest's network no IPv4 addresses")
	case n.IPv6.IsValid() != n.HostIPv6.IsValid(), n.IPv6.IsValid() && (!n.IPv6.Is6() || n.IPv6.Is4In6() || !n.HostIPv6.Is6() || n.HostIPv6.Is4In6()):
		return errors.New("the boot manifest gives the guest's network one IPv6 address of the two that it needs, or none that is one")
	}
	return nil
}

// serve takes over the device f.
func serve(ctx context.Context, f *os.File, n *wire.Network, o Options) (_ *Hostnet, err error) {
	h := &Hostnet{network: *n, datagrams: o.Datagrams}
	h.ctx, h.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			h.cancel()
			f.Close()
		}
	}()
	if h.device, err = newDevice(f, n.MTU); err != nil {
		return nil, err
	}
	h.tcp = newTCPService(h, o)
	h.receiving.Go((&receiver{h: h}).run)
	context.AfterFunc(h.ctx, h.device.close)
	return h, nil
}

// Close takes the interface away, resets the connections and returns when
// nothing of it is left.
func (h *Hostnet) Close() {
	h.cancel()
	h.device.close()
	h.receiving.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.tcp.wait()
	}()
	// A handshake under way waits for packets that come no more. One may begin
	// yet, hence again.
	for tick := time.Tick(10 * time.Millisecond); ; {
		h.tcp.abort()
		select {
		case <-ended:
			h.tcp.destroy()
			return
		case <-tick:
		}
	}
}

const nic tcpip.NICID = 1

// Sizes of netstack's buffers: enough of the largest packets to keep both ends
// at work, and a bound on what a connection can hold.
const (
	bufferMin     = 4 << 10
	receiveBuffer = 1 << 20
	sendBuffer    = 1 << 20
)

// newStack is a TCP that takes every address for its own.
func newStack(l *link, v6 bool) (*stack.Stack, error) {
	o := stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	}
	if v6 {
		o.NetworkProtocols = append(o.NetworkProtocols, ipv6.NewProtocol)
	}
	s := stack.New(o)
	if err := s.CreateNIC(nic, l); err != nil {
		return nil, fmt.Errorf("start the guest's TCP: %s", err)
	}
	routes := []tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}}
	if v6 {
		routes = append(routes, tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nic})
	}
	s.SetRouteTable(routes)
	if err := s.SetPromiscuousMode(nic, true); err != nil {
		return nil, fmt.Errorf("start the guest's TCP: %s", err)
	}
	if err := s.SetSpoofing(nic, true); err != nil {
		return nil, fmt.Errorf("start the guest's TCP: %s", err)
	}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: bufferMin, Default: sendBuffer, Max: sendBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: bufferMin, Default: receiveBuffer, Max: receiveBuffer}
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(false)
	// The guest's kernel is the only peer and never takes an old segment for a
	// new one, so a connection need not be remembered.
	timeWait := tcpip.TCPTimeWaitTimeoutOption(0)
	// A packet is lost only where the kernel has no room, and reordered never.
	recovery := tcpip.TCPRecovery(0)
	for _, option := range []tcpip.SettableTransportProtocolOption{&send, &receive, &sack, &moderate, &timeWait, &recovery} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return nil, fmt.Errorf("set up the guest's TCP (%T): %s", option, err)
		}
	}
	return s, nil
}
