package socks5

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"bake/internal/relay"
)

// Connect has the SOCKS5 server at the other end of conn connect to an
// address; conn is then the connection. The error of a server that answers is
// a *[ReplyError]. After an error, or the end of ctx, conn is of no use; it is
// the caller's to close.
func Connect(ctx context.Context, conn net.Conn, to Address) error {
	return ConnectAs(ctx, conn, to, nil)
}

// ConnectAs is [Connect] with a user name and a password (RFC 1929), if user
// is not nil, for the server that asks for them.
func ConnectAs(ctx context.Context, conn net.Conn, to Address, user *url.Userinfo) error {
	return during(ctx, conn, func() error { return connect(conn, to, user) })
}

// ConnectStream is [Connect] to bake's own server, in one round trip, with
// [MethodStream]. It closes conn if it fails.
func ConnectStream(ctx context.Context, conn net.Conn, to Address) (*relay.Stream, error) {
	err := during(ctx, conn, func() error {
		request, err := appendRequest([]byte{version, 1, byte(MethodStream)}, to)
		if err != nil {
			return err
		}
		if _, err := conn.Write(request); err != nil {
			return fmt.Errorf("send a SOCKS request: %w", err)
		}
		if err := readMethod(conn, MethodStream); err != nil {
			return err
		}
		return readReply(conn, to)
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return relay.NewStream(conn), nil
}

// during runs an exchange on conn that ends with ctx at the latest.
func during(ctx context.Context, conn net.Conn, exchange func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// A deadline in the past wakes the read or write under way.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := exchange()
	if !stop() { // the deadline is in the past, or will be
		return context.Cause(ctx)
	}
	return err
}

func connect(conn net.Conn, to Address, user *url.Userinfo) error {
	request, err := appendRequest(nil, to)
	if err != nil {
		return err
	}
	greeting := []byte{version, 1, byte(MethodNone)}
	if user != nil {
		greeting = []byte{version, 2, byte(MethodNone), byte(MethodPassword)}
	}
	if _, err := conn.Write(greeting); err != nil {
		return fmt.Errorf("greet a SOCKS server: %w", err)
	}
	m, err := readAnyMethod(conn)
	switch {
	case err != nil:
		return err
	case m == MethodPassword && user != nil:
		if err := logIn(conn, user); err != nil {
			return err
		}
	case m == methodUnacceptable && user == nil:
		return errors.New("the SOCKS server wants a user name and a password: write them in its URL, as in socks5://user:password@host:port")
	case m != MethodNone:
		return wrongMethod(m)
	}
	if _, err := conn.Write(request); err != nil {
		return fmt.Errorf("send a SOCKS request: %w", err)
	}
	return readReply(conn, to)
}

// logIn is RFC 1929, section 2.
func logIn(conn net.Conn, user *url.Userinfo) error {
	name := user.Username()
	password, _ := user.Password()
	if len(name) > 255 || len(password) > 255 {
		return errors.New("a SOCKS user name or password is longer than 255 bytes")
	}
	b := append([]byte{1, byte(len(name))}, name...)
	b = append(append(b, byte(len(password))), password...)
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("log in to a SOCKS server: %w", err)
	}
	var status [2]byte
	if _, err := io.ReadFull(conn, status[:]); err != nil {
		return fmt.Errorf("read a SOCKS server's answer to a user name and password: %w", err)
	}
	if status[1] != 0 {
		return fmt.Errorf("the SOCKS server does not take the user name %q with its password (status %d)", name, status[1])
	}
	return nil
}

func appendRequest(b []byte, to Address) ([]byte, error) {
	if len(to.Name) > MaxName {
		return nil, &ReplyError{ReplyHostUnreachable, fmt.Sprintf("a host's name has %d bytes, more than the %d of SOCKS", len(to.Name), MaxName)}
	}
	if to.Name == "" && !to.AddrPort.Addr().IsValid() {
		return nil, &ReplyError{ReplyHostUnreachable, "there is no host to connect to"}
	}
	return appendAddress(append(b, version, commandConnect, 0), to), nil
}

func readAnyMethod(r io.Reader) (Method, error) {
	var b [2]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("read a SOCKS server's answer: %w", noEOF(err))
	}
	if b[0] != version {
		return 0, fmt.Errorf("what answers is no SOCKS5 server: its first byte is %#02x", b[0])
	}
	return Method(b[1]), nil
}

func readMethod(r io.Reader, want Method) error {
	m, err := readAnyMethod(r)
	if err == nil && m != want {
		err = wrongMethod(m)
	}
	return err
}

func wrongMethod(m Method) error {
	if m == methodUnacceptable {
		return errors.New("the SOCKS server takes none of the authentication methods that we offer")
	}
	return fmt.Errorf("the SOCKS server chose authentication method %#02x, which was not offered", byte(m))
}

// readReply reads a reply (section 6), the address in it too.
func readReply(r io.Reader, to Address) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read a SOCKS reply: %w", noEOF(err))
	}
	if head[0] != version {
		return fmt.Errorf("a reply has SOCKS version %d, not 5", head[0])
	}
	if reply := Reply(head[1]); reply != ReplySucceeded {
		// Nothing more is to come, and of some servers not even the address.
		return &ReplyError{reply, "connect to " + to.String()}
	}
	if _, err := readAddress(r, head[3]); err != nil {
		return fmt.Errorf("a SOCKS reply has no address that can be read: %w", err)
	}
	return nil
}
