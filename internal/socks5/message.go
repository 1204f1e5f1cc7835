package socks5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
)

const version = 5

// A Method is how a client says who it is (section 3).
type Method byte

const (
	MethodNone     Method = 0x00
	MethodPassword Method = 0x02 // RFC 1929
	// MethodStream is bake's own: nobody says who he is, and what follows the
	// reply is framed as a relay.Stream.
	MethodStream Method = 0x80

	methodUnacceptable Method = 0xff
)

const commandConnect = 1

// Address types (section 5).
const (
	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// MaxName is the longest name that a request holds, in bytes.
const MaxName = 255

// An Address is where to connect to.
type Address struct {
	// Name, if it is not empty, is the host, and the address in AddrPort does
	// not count. What a client sent may have any bytes in it.
	Name string
	// AddrPort has the host's address, never a mapped one, and the port.
	AddrPort netip.AddrPort
}

// Port is the TCP port.
func (a Address) Port() uint16 { return a.AddrPort.Port() }

func (a Address) String() string {
	if a.Name == "" {
		return a.AddrPort.String()
	}
	return net.JoinHostPort(printable(a.Name), strconv.Itoa(int(a.Port())))
}

// printable makes a name from the other side fit for a line of text.
func printable(name string) string {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f || name[i] == '"' {
			return strconv.QuoteToASCII(name)
		}
	}
	return name
}

// ReadGreeting reads a client's methods (section 3) and answers with the first
// of ours that is among them.
func ReadGreeting(rw io.ReadWriter, ours ...Method) (Method, error) {
	var head [2]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return 0, fmt.Errorf("read a SOCKS client's greeting: %w", err)
	}
	if head[0] != version {
		return 0, fmt.Errorf("a client speaks SOCKS version %d, not 5", head[0])
	}
	var theirs [255]byte
	methods := theirs[:head[1]]
	if _, err := io.ReadFull(rw, methods); err != nil {
		return 0, fmt.Errorf("read a SOCKS client's methods: %w", err)
	}
	for _, m := range ours {
		for _, t := range methods {
			if Method(t) == m {
				_, err := rw.Write([]byte{version, t})
				return m, err
			}
		}
	}
	if _, err := rw.Write([]byte{version, byte(methodUnacceptable)}); err != nil {
		return 0, err
	}
	return 0, errors.New("a SOCKS client insists on authentication")
}

// ReadRequest reads a request (section 4). The error is a *[ReplyError] where
// the request is understood and refused; it is to be answered.
func ReadRequest(r io.Reader) (Address, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Address{}, fmt.Errorf("read a SOCKS request: %w", err)
	}
	if head[0] != version {
		return Address{}, &ReplyError{ReplyFailure, fmt.Sprintf("a request has SOCKS version %d, not 5", head[0])}
	}
	a, err := readAddress(r, head[3])
	if err != nil {
		return Address{}, err
	}
	if head[1] != commandConnect {
		return Address{}, &ReplyError{ReplyCommand, fmt.Sprintf("SOCKS command %d to %v", head[1], a)}
	}
	if head[3] == typeName && a.Name == "" {
		return Address{}, &ReplyError{ReplyNotAllowed, "a request names no host"}
	}
	return a, nil
}

// readAddress reads an address of the type and a port (section 5). An empty
// name is not an error.
func readAddress(r io.Reader, kind byte) (Address, error) {
	var buf [1 + MaxName + 2]byte
	n := 0
	switch kind {
	case typeIPv4:
		n = 4
	case typeIPv6:
		n = 16
	case typeName:
		if _, err := io.ReadFull(r, buf[:1]); err != nil {
			return Address{}, fmt.Errorf("read the length of a SOCKS name: %w", noEOF(err))
		}
		n = int(buf[0])
	default:
		// Its length is unknown, so nothing after it can be read.
		return Address{}, &ReplyError{ReplyAddressType, fmt.Sprintf("SOCKS address type %d", kind)}
	}
	b := buf[:n+2]
	if _, err := io.ReadFull(r, b); err != nil {
		return Address{}, fmt.Errorf("read a SOCKS address: %w", noEOF(err))
	}
	port := binary.BigEndian.Uint16(b[n:])
	if kind == typeName {
		return Address{Name: string(b[:n]), AddrPort: netip.AddrPortFrom(netip.Addr{}, port)}, nil
	}
	host, _ := netip.AddrFromSlice(b[:n])
	return Address{AddrPort: netip.AddrPortFrom(host.Unmap(), port)}, nil
}

// noEOF is for the middle of a message.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// WriteReply answers a request (section 6) with the address that the server
// connected from, or none.
func WriteReply(w io.Writer, r Reply, bound netip.AddrPort) error {
	b := make([]byte, 0, 4+16+2)
	b = append(b, version, byte(r), 0)
	host := bound.Addr()
	if !host.IsValid() {
		host = netip.IPv4Unspecified()
	}
	_, err := w.Write(appendAddress(b, Address{AddrPort: netip.AddrPortFrom(host, bound.Port())}))
	return err
}

// appendAddress appends an address whose name is not too long.
func appendAddress(b []byte, a Address) []byte {
	switch host := a.AddrPort.Addr().Unmap(); {
	case a.Name != "":
		b = append(b, typeName, byte(len(a.Name)))
		b = append(b, a.Name...)
	case host.Is4():
		ip := host.As4()
		b = append(append(b, typeIPv4), ip[:]...)
	default:
		ip := host.As16()
		b = append(append(b, typeIPv6), ip[:]...)
	}
	return binary.BigEndian.AppendUint16(b, a.Port())
}
