package egress

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"bake/internal/relay"
	"bake/internal/socks5"
)

const (
	// proxyTime bounds how long a proxy may take, which itself waits for a
	// connection as long as its kernel does: two minutes with Linux's
	// tcp_syn_retries (tcp(7)).
	proxyTime = 3 * time.Minute
	// maxHeader bounds the header of an HTTP proxy's answer, in bytes.
	maxHeader = 16 << 10
	// maxInterim bounds the answers 1xx before the answer.
	maxInterim = 8
)

// A proxyError says that the proxy itself fails. To the guest the destination
// cannot be reached, and not that it refuses.
type proxyError struct {
	server *proxyServer
	err    error
}

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy %s fails, and nothing goes around it: %v", e.server.address, e.err)
}

// Unwrap gives not the cause, whose errno is that of the way to the proxy.
func (e *proxyError) Unwrap() error { return syscall.EHOSTUNREACH }

// dial connects to an address or a name through the server.
func (s *proxyServer) dial(ctx context.Context, to socks5.Address) (relay.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, proxyTime, &proxyError{s, errors.New("it gives no answer")})
	defer cancel()
	conn, err := s.connect(ctx, to)
	if err == nil {
		return conn, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var reply *socks5.ReplyError
	if errors.As(err, &reply) {
		return nil, err // it works, and says why it does not connect
	}
	return nil, &proxyError{s, err}
}

func (s *proxyServer) connect(ctx context.Context, to socks5.Address) (relay.Conn, error) {
	c, err := dialer.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	var conn relay.Conn = tcp
	if s.kind == proxyHTTPS {
		secure := tls.Client(tcp, &tls.Config{ServerName: s.host, NextProtos: []string{"http/1.1"}})
		if err := secure.HandshakeContext(ctx); err != nil {
			tcp.Close()
			return nil, fmt.Errorf("begin TLS: %w", err)
		}
		conn = &tlsConn{Conn: secure, tcp: tcp}
	}
	if s.kind == proxySOCKS {
		err = socks5.ConnectAs(ctx, conn, to, s.user)
	} else {
		err = s.connectHTTP(ctx, conn, to)
	}
	if err != nil {
		tcp.Close()
		return nil, err
	}
	return conn, nil
}

// connectHTTP asks for a tunnel (RFC 9110, section 9.3.6).
func (s *proxyServer) connectHTTP(ctx context.Context, conn net.Conn, to socks5.Address) error {
	request := fmt.Sprintf("CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n", to)
	if s.user != nil {
		password, _ := s.user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(s.user.Username() + ":" + password))
		request += "Proxy-Authorization: Basic " + credentials + "\r\n"
	}
	request += "\r\n"

	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := func() error {
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		status, err := readStatus(conn)
		if err != nil {
			return err
		}
		return statusError(status, to)
	}()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// A status is the last line of its kind in an answer.
type status struct {
	code   int
	reason string
}

// readStatus reads an answer's header (RFC 9112, section 2.1) and nothing
// behind it: with a tunnel, its data follows. There is no body in a tunnel's
// answer, whatever the header says.
func readStatus(r io.Reader) (status, error) {
	budget := maxHeader
	for range maxInterim {
		s, err := readOneStatus(r, &budget)
		if err != nil || s.code >= 200 {
			return s, err
		}
	}
	return status{}, fmt.Errorf("it answers 1xx more than %d times", maxInterim)
}

func readOneStatus(r io.Reader, budget *int) (status, error) {
	first, err := readLine(r, budget)
	if err != nil {
		return status{}, err
	}
	proto, rest, _ := strings.Cut(first, " ")
	code, reason, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	n, err := strconv.ParseUint(code, 10, 16)
	if !strings.HasPrefix(proto, "HTTP/1.") || err != nil || len(code) != 3 || n < 100 {
		return status{}, fmt.Errorf("what answers is no HTTP proxy: its first line is %.80q", first)
	}
	for {
		line, err := readLine(r, budget)
		if err != nil {
			return status{}, err
		}
		if line == "" {
			return status{int(n), reason}, nil
		}
	}
}

// readLine reads up to a newline, a byte at a time, as nothing behind the
// header may be taken. The end of line is not in it.
func readLine(r io.Reader, budget *int) (string, error) {
	var line []byte
	var b [1]byte
	for {
		if *budget == 0 {
			return "", fmt.Errorf("the header of its answer is longer than %d bytes", maxHeader)
		}
		*budget--
		if _, err := io.ReadFull(r, b[:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return "", fmt.Errorf("read its answer: %w", err)
		}
		if b[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, b[0])
	}
}

// statusError is what a proxy's answer means for the destination, or for the
// proxy itself.
func statusError(s status, to socks5.Address) error {
	var reply socks5.Reply
	switch {
	case s.code < 300:
		return nil
	case s.code == 407, s.code == 401: // tinyproxy(8) says 401
		return errors.New("it wants a user name and a password that it knows: write them in its URL, as in http://user:password@host:port")
	case s.code == 403, s.code == 405, s.code == 451:
		reply = socks5.ReplyNotAllowed
	case s.code == 408, s.code == 504:
		reply = socks5.ReplyTimeout
	default:
		reply = socks5.ReplyHostUnreachable
	}
	return &socks5.ReplyError{Reply: reply, What: fmt.Sprintf("connect to %v through the proxy, which answers %d %.80q", to, s.code, s.reason)}
}

// A tlsConn is a connection to a proxy that can be reset.
type tlsConn struct {
	*tls.Conn
	tcp  *net.TCPConn
	hard atomic.Bool
}

// SetLinger is that of the connection below; with 0, Close says no farewell.
func (c *tlsConn) SetLinger(sec int) error {
	c.hard.Store(sec == 0)
	return c.tcp.SetLinger(sec)
}

func (c *tlsConn) Close() error {
	if c.hard.Load() {
		return c.tcp.Close()
	}
	return c.Conn.Close()
}
