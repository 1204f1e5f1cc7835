// Package forward publishes ports of the guest on the host: it listens before
// anything boots, and for each TCP connection asks the guest's SOCKS5 server
// on vsock port 10 to connect to the port inside. The sockets of UDP ports are
// opened here too, and served by whoever carries datagrams.
//
// It parses --publish, in docker-run(1)'s syntax, and knows nothing of policies
// for outbound traffic nor of how the guest is started: who serves tells it
// when the container runs.
package forward

import (
	"fmt"
	"net/netip"
)

// MaxPorts is how many ports of the guest may be published.
const MaxPorts = 1000

// A Proto is a transport protocol: tcp or udp.
type Proto string

// The protocols that can be published.
const (
	TCP Proto = "tcp"
	UDP Proto = "udp"
)

// A Port is one port of the guest and where on the host it is published.
type Port struct {
	Proto Proto
	// Host is the host's address: not mapped, and only 0.0.0.0 and :: if all
	// addresses of their family are meant.
	Host netip.Addr
	// First and Last bound the host's port. The first free one of them is
	// taken; both are 0 if any port will do.
	First, Last uint16
	// VMPort is the port on the guest's loopback, never 0.
	VMPort uint16
}

// Chosen reports whether the host's port is known only after [Listen].
func (p Port) Chosen() bool { return p.First == 0 || p.First != p.Last }

// Guest names the guest's port: "80", or "53/udp".
func (p Port) Guest() string {
	if p.Proto == TCP {
		return fmt.Sprint(p.VMPort)
	}
	return fmt.Sprintf("%d/%s", p.VMPort, p.Proto)
}

// String is p as --publish takes it.
func (p Port) String() string {
	host := p.Host.String()
	if p.Host.Is6() {
		host = "[" + host + "]"
	}
	switch {
	case p.First != p.Last:
		return fmt.Sprintf("%s:%d-%d:%s", host, p.First, p.Last, p.Guest())
	default:
		return fmt.Sprintf("%s:%d:%s", host, p.First, p.Guest())
	}
}
