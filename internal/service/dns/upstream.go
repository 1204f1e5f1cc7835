package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

var (
	errMismatch = errors.New("it answers another question")
	errSilent   = errors.New("it does not answer")
)

// A query is one question to a nameserver.
type query struct {
	question dns.Question
	wire     []byte // encoded, with another ID each time
	plain    []byte // the same without EDNS; nil if it has none
}

func newQuery(m *dns.Msg) (*query, error) {
	q := &query{question: m.Question[0]}
	var err error
	if q.wire, err = m.Pack(); err != nil {
		return nil, fmt.Errorf("encode a question for the host's nameservers: %w", err)
	}
	if m.IsEdns0() != nil {
		m = m.Copy()
		m.Extra = nil
		if q.plain, err = m.Pack(); err != nil {
			return nil, fmt.Errorf("encode a question for the host's nameservers: %w", err)
		}
	}
	return q, nil
}

// ask puts q to one nameserver as often as c says, as long as nothing comes
// back. Whatever it answers is its answer: the error says that it gave none.
func (q *query) ask(ctx context.Context, server netip.AddrPort, c *resolvConf) (*dns.Msg, error) {
	if !c.useVC {
		question := q.wire
		m, err := q.udp(ctx, server, question, c)
		if err == nil && m.IsEdns0() == nil && q.plain != nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
			// It knows no EDNS: RFC 6891, section 7.
			question = q.plain
			m, err = q.udp(ctx, server, question, c)
		}
		if err != nil || !m.Truncated {
			return m, err
		}
		if whole, err := q.tcp(ctx, server, question, c.timeout); err == nil {
			return whole, nil
		}
		return m, nil
	}
	var err error
	for range c.attempts {
		var m *dns.Msg
		if m, err = q.tcp(ctx, server, q.wire, c.timeout); err == nil {
			return m, nil
		}
		if !errors.Is(err, errSilent) {
			break
		}
	}
	return nil, err
}

// udp asks from a port of the kernel's choosing with a random ID (RFC 5452,
// section 9.2) and takes the first answer that is to this question. Further
// attempts repeat the datagram, so that an answer to any of them counts.
func (q *query) udp(ctx context.Context, server netip.AddrPort, question []byte, c *resolvConf) (*dns.Msg, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, fmt.Errorf("open a socket to ask %s: %w", server, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	msg, id := withID(question, 0)
	buf := datagrams.Get().(*[]byte)
	defer datagrams.Put(buf)
	for range c.attempts {
		if _, err := conn.Write(msg); err != nil {
			return nil, fmt.Errorf("ask %s: %w", server, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
			return nil, fmt.Errorf("ask %s: %w", server, err)
		}
		for {
			n, err := conn.Read(*buf)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("ask %s: %w", server, err)
			}
			m, err := q.decode((*buf)[:n], id)
			if errors.Is(err, errMismatch) {
				continue // forged, or late
			}
			if err != nil {
				return nil, fmt.Errorf("ask %s: %w", server, err)
			}
			return m, nil
		}
	}
	return nil, fmt.Errorf("ask %s: %w within %v, %d times", server, errSilent, c.timeout, c.attempts)
}

var datagrams = sync.Pool{New: func() any { b := make([]byte, dns.MaxMsgSize); return &b }}

// tcp asks over a connection of its own (RFC 7766).
func (q *query) tcp(ctx context.Context, server netip.AddrPort, question []byte, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fail := func(err error) (*dns.Msg, error) {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = errSilent
		}
		return nil, fmt.Errorf("ask %s over TCP: %w", server, err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", server.String())
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	msg, id := withID(question, 2)
	binary.BigEndian.PutUint16(msg, uint16(len(question)))
	if _, err := conn.Write(msg); err != nil {
		return fail(err)
	}
	answer, err := readMessage(conn)
	if err != nil {
		return fail(err)
	}
	m, err := q.decode(answer, id)
	if err != nil {
		return fail(err)
	}
	return m, nil
}

// readMessage reads a message with its length before it (RFC 1035, section
// 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}

// withID copies a message to behind room bytes and gives it a random ID.
func withID(question []byte, room int) (msg []byte, id uint16) {
	msg = make([]byte, room+len(question))
	copy(msg[room:], question)
	rand.Read(msg[room : room+2])
	return msg, binary.BigEndian.Uint16(msg[room:])
}

// decode reads a nameserver's message. The error is errMismatch if it is no
// answer to this question.
func (q *query) decode(b []byte, id uint16) (*dns.Msg, error) {
	if len(b) < headerSize || binary.BigEndian.Uint16(b) != id || b[2]&0x80 == 0 {
		return nil, errMismatch
	}
	m := new(dns.Msg)
	err := m.Unpack(b)
	switch {
	case len(m.Question) == 1:
		got := m.Question[0]
		if got.Qtype != q.question.Qtype || got.Qclass != q.question.Qclass || !strings.EqualFold(got.Name, q.question.Name) {
			return nil, errMismatch
		}
	case len(m.Question) == 0 && err == nil && refuses(m):
		// Some leave the question out when they refuse it.
	default:
		return nil, errMismatch
	}
	if err != nil && !m.Truncated {
		return nil, fmt.Errorf("its answer is malformed: %w", err)
	}
	// Some cut a record in two.
	return m, nil
}

// refuses says whether another nameserver should be asked, as glibc does:
// res_send(3) goes on after these, and after an answer that only refers to
// other servers.
func refuses(m *dns.Msg) bool {
	switch m.Rcode {
	case dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotImplemented, dns.RcodeFormatError:
		return true
	case dns.RcodeSuccess:
		return len(m.Answer) == 0 && !m.Authoritative && !m.RecursionAvailable && len(m.Ns) > 0 && m.Ns[0].Header().Rrtype == dns.TypeNS
	}
	return false
}
