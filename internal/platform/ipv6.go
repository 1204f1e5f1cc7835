package platform

import (
	"context"
	"net"
)

// HasIPv6 says whether this machine has a route to the IPv6 internet and an
// address to send from: connect(2) on a UDP socket chooses both and sends
// nothing. The address is that of a root name server, which does not move.
func HasIPv6(ctx context.Context) bool { return routed(ctx, "[2001:503:ba3e::2:30]:53") }

// routed says whether addr, of the internet, can be sent to.
func routed(ctx context.Context, addr string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "udp6", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	// A route through lo, as one that only blocks, has the loopback's address.
	return ok && local.IP.IsGlobalUnicast()
}
