package socks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
)

const (
	version = 5

	methodNone         = 0x00
	methodUnacceptable = 0xff

	commandConnect = 1

	addressIPv4   = 1
	addressDomain = 3
	addressIPv6   = 4
)

// A reply is the REP field of RFC 1928, section 6.
type reply byte

const (
	replySucceeded          reply = 0
	replyFailure            reply = 1
	replyNotAllowed         reply = 2
	replyNetworkUnreachable reply = 3
	replyHostUnreachable    reply = 4
	replyRefused            reply = 5
	replyTimeout            reply = 6
	replyCommand            reply = 7
	replyAddressType        reply = 8
)

// A protocolError is a request that is refused with a reply.
type protocolError struct {
	reply reply
	what  string
}

func (e *protocolError) Error() string { return e.what }

// negotiate reads the client's methods (section 3) and answers that none is
// needed. It reads no byte beyond.
func negotiate(rw io.ReadWriter) error {
	var head [2]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return fmt.Errorf("read a SOCKS client's greeting: %w", err)
	}
	if head[0] != version {
		return fmt.Errorf("a client speaks SOCKS version %d, not 5", head[0])
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(rw, methods); err != nil {
		return fmt.Errorf("read a SOCKS client's methods: %w", err)
	}
	for _, m := range methods {
		if m == methodNone {
			_, err := rw.Write([]byte{version, methodNone})
			return err
		}
	}
	if _, err := rw.Write([]byte{version, methodUnacceptable}); err != nil {
		return err
	}
	return errors.New("a SOCKS client insists on authentication")
}

// readRequest reads a request (section 4) and returns where to connect, in
// the order in which to try. It reads no byte beyond, as data may follow.
func readRequest(r io.Reader) ([]netip.AddrPort, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read a SOCKS request: %w", err)
	}
	if head[0] != version {
		return nil, &protocolError{replyFailure, fmt.Sprintf("a request has SOCKS version %d, not 5", head[0])}
	}
	var hosts []netip.Addr
	var refused *protocolError
	switch head[3] {
	case addressIPv4, addressIPv6:
		b := make([]byte, 4)
		if head[3] == addressIPv6 {
			b = make([]byte, 16)
		}
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, fmt.Errorf("read a SOCKS request's address: %w", err)
		}
		host, _ := netip.AddrFromSlice(b)
		if host = host.Unmap(); !host.IsLoopback() {
			refused = &protocolError{replyNotAllowed, fmt.Sprintf("%s is not an address of the guest's loopback interface", host)}
		}
		hosts = []netip.Addr{host}
	case addressDomain:
		var n [1]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return nil, fmt.Errorf("read a SOCKS request's name: %w", err)
		}
		name := make([]byte, n[0])
		if _, err := io.ReadFull(r, name); err != nil {
			return nil, fmt.Errorf("read a SOCKS request's name: %w", err)
		}
		if !strings.EqualFold(string(name), "localhost") {
			refused = &protocolError{replyNotAllowed, fmt.Sprintf("%q is not localhost", name)}
		}
		hosts = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	default:
		// Its length is unknown, so nothing after it can be read.
		return nil, &protocolError{replyAddressType, fmt.Sprintf("there is no SOCKS address type %d", head[3])}
	}
	var port [2]byte
	if _, err := io.ReadFull(r, port[:]); err != nil {
		return nil, fmt.Errorf("read a SOCKS request's port: %w", err)
	}
	if head[1] != commandConnect {
		return nil, &protocolError{replyCommand, fmt.Sprintf("the SOCKS command %d is not served", head[1])}
	}
	if refused != nil {
		return nil, refused
	}
	addrs := make([]netip.AddrPort, len(hosts))
	for i, h := range hosts {
		addrs[i] = netip.AddrPortFrom(h, binary.BigEndian.Uint16(port[:]))
	}
	return addrs, nil
}

// writeReply answers a request (section 6) with the address that the server
// connected from.
func writeReply(w io.Writer, r reply, bound netip.AddrPort) error {
	b := []byte{version, byte(r), 0}
	if addr := bound.Addr().Unmap(); addr.Is6() {
		b = append(append(b, addressIPv6), addr.AsSlice()...)
	} else if addr.Is4() {
		b = append(append(b, addressIPv4), addr.AsSlice()...)
	} else {
		b = append(b, addressIPv4, 0, 0, 0, 0)
	}
	_, err := w.Write(binary.BigEndian.AppendUint16(b, bound.Port()))
	return err
}

// replyFor is the reply that says why connecting failed.
func replyFor(err error) reply {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return replyRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return replyNetworkUnreachable
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return replyHostUnreachable
	case errors.As(err, &timeout) && timeout.Timeout():
		return replyTimeout
	}
	return replyFailure
}
