// Package udpio reads and writes many datagram sockets with few system calls
// and few goroutines: UDP and, where the system lets an ordinary user ping,
// ICMP echo.
//
// On Linux one goroutine waits for all sockets of a [Poller] and datagrams
// move in batches (recvmmsg(2), sendmmsg(2)); elsewhere each socket has a
// goroutine. The package knows no frames, no policy and nothing of guests.
package udpio

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// MaxPayload bounds what one datagram can carry, in bytes, in either family
// and with any header that the kernel leaves in front of it.
const MaxPayload = 1 << 16

// A Kind is what a socket speaks.
type Kind uint8

const (
	UDP4 Kind = 1 + iota
	UDP6
	// Ping4 and Ping6 carry ICMP echo messages (RFC 792, RFC 4443 section 4)
	// whose identifier and checksum the kernel fills in, see icmp(7) on
	// net.ipv4.ping_group_range. The peers' port is 0.
	Ping4
	Ping6
)

// UDP is the Kind of socket that speaks UDP with a.
func UDP(a netip.Addr) Kind {
	if a.Is4() {
		return UDP4
	}
	return UDP6
}

// Ping is the Kind of socket that pings a.
func Ping(a netip.Addr) Kind {
	if a.Is4() {
		return Ping4
	}
	return Ping6
}

// A Datagram is what was received from Peer or goes there.
type Datagram struct {
	// Peer is never an IPv4 address in IPv6's form. A socket with one peer
	// ignores it when it sends.
	Peer netip.AddrPort
	// Local is the address of this host that the peer speaks with, so that the
	// answer comes from it. It is set, and used, only for adopted sockets
	// that listen on all addresses, and only on Linux.
	Local   netip.Addr
	Payload []byte
}

// A Handler is told what happens to one socket. A call must not block: other
// sockets wait for it. One can still come just after the socket was closed.
type Handler interface {
	// Received gives datagrams, whose memory is valid until it returns.
	Received([]Datagram)
	// Failed says that a datagram sent to a peer came back as an ICMP error.
	// Only Linux tells for sockets without a fixed peer. Quoted is the
	// beginning of the datagram's payload, or of a ping's message, as far as
	// it is known.
	Failed(peer netip.AddrPort, err syscall.Errno, quoted []byte)
}

// A Socket sends. Its methods are safe for concurrent use.
type Socket interface {
	// Send sends each datagram or calls failed with its index. A peer's ICMP
	// error is not a failure here; see [Handler]. Errors that wrap EAGAIN or
	// ENOBUFS mean that the network takes no more at present.
	Send(batch []Datagram, failed func(i int, err error))
	// Close ends the socket. It does not wait for the handler.
	Close()
}

// A Poller owns sockets. Its methods are safe for concurrent use.
type Poller interface {
	// Open makes a socket that any peer can be sent to from, on a port that
	// the system chooses.
	Open(Kind, Handler) (Socket, error)
	// Connect makes a UDP socket with one peer.
	Connect(netip.AddrPort, Handler) (Socket, error)
	// Adopt takes over a socket that listens; conn itself stays open and
	// is its owner's to close after the socket.
	Adopt(conn net.PacketConn, h Handler) (Socket, error)
	// Run calls the handlers until ctx ends. Then it closes the sockets and
	// returns nil. It is called once.
	Run(ctx context.Context) error
}
