package forward

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// A Listener is one published TCP port.
type Listener struct {
	Port
	*net.TCPListener
}

// A PacketConn is one published UDP port.
type PacketConn struct {
	Port
	*net.UDPConn
}

// Published are the ports of the host that stand for ports of the guest, in
// the order in which they were asked for.
type Published struct {
	TCP []Listener
	UDP []PacketConn
}

// Listen takes the host's ports, so that one in use is an error before the VM
// boots. The error says which one, where, and what to do; nothing is left open
// then.
func Listen(ports []Port) (*Published, error) {
	if err := Check(ports); err != nil {
		return nil, err
	}
	// Those that can give way to others come after them.
	order := make([]int, len(ports))
	for i := range order {
		order[i] = i
	}
	leeway := func(p Port) int {
		if p.First == 0 {
			return 1 << 16
		}
		return int(p.Last - p.First)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(leeway(ports[a]), leeway(ports[b])) })

	pub := &Published{}
	tcp, udp := make([]*net.TCPListener, len(ports)), make([]*net.UDPConn, len(ports))
	var err error
	for _, i := range order {
		if ports[i].Proto == UDP {
			udp[i], err = listen(ports[i], func(network string, a netip.AddrPort) (*net.UDPConn, error) {
				return net.ListenUDP("udp"+network, net.UDPAddrFromAddrPort(a))
			})
		} else {
			tcp[i], err = listen(ports[i], func(network string, a netip.AddrPort) (*net.TCPListener, error) {
				return net.ListenTCP("tcp"+network, net.TCPAddrFromAddrPort(a))
			})
		}
		if err != nil {
			break
		}
	}
	for i, p := range ports {
		if tcp[i] != nil {
			pub.TCP = append(pub.TCP, Listener{p, tcp[i]})
		}
		if udp[i] != nil {
			pub.UDP = append(pub.UDP, PacketConn{p, udp[i]})
		}
	}
	if err != nil {
		pub.Close()
		return nil, err
	}
	return pub, nil
}

// listen tries the ports that p allows. An IPv6 address is never IPv4's as
// well, "::" neither: the network says so.
func listen[T any](p Port, open func(network string, a netip.AddrPort) (T, error)) (T, error) {
	network := "4"
	if p.Host.Is6() {
		network = "6"
	}
	for n := int(p.First); ; n++ {
		ln, err := open(network, netip.AddrPortFrom(p.Host, uint16(n)))
		if err == nil {
			return ln, nil
		}
		if errors.Is(err, syscall.EADDRINUSE) && n < int(p.Last) {
			continue
		}
		var none T
		return none, p.explain(uint16(n), err)
	}
}

// explain is the sentence for an error of listening on port n.
func (p Port) explain(n uint16, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // what else it says is in our sentence
	}
	say := func(where, cure string) error {
		return fmt.Errorf("publish port %s of the VM on %s: %w; %s", p.Guest(), where, err, cure)
	}
	where := fmt.Sprintf("%s port %d/%s", p.Host, n, p.Proto)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && p.First != p.Last:
		return say(fmt.Sprintf("%s ports %d-%d/%s", p.Host, p.First, p.Last, p.Proto), "all of them are: choose another range, or 0 to take any free port")
	case errors.Is(err, syscall.EADDRINUSE):
		return say(where, "choose another host port, or 0 to take any free one")
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return say(where, "this user may not listen on a port as low as that: choose one from 1024 on")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return say(where, "no interface of this host has that address: choose one that it has, or 0.0.0.0 or [::] for all")
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return say(where, "this host does not have that kind of address")
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return say(where, "publish fewer ports, or raise the limit of open files (ulimit -n)")
	}
	return say(where, "choose another address or port of the host")
}

// Close gives the ports back.
func (p *Published) Close() {
	for _, ln := range p.TCP {
		ln.TCPListener.Close()
	}
	for _, c := range p.UDP {
		c.UDPConn.Close()
	}
}
