package sshclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/relay"
	"bake/internal/socks5"
)

const (
	// forwardConns bounds the connections of one forwarded port at once.
	forwardConns = 1024
	// socksTime bounds what a SOCKS client may take to say where it wants to go.
	socksTime = time.Minute
)

// A Direction says which side of a forwarded port listens.
type Direction byte

// The directions, by the options of ssh(1).
const (
	Local   Direction = 'L' // we listen, and connections go to the guest's side
	Remote  Direction = 'R' // the guest listens, and connections come to ours
	Dynamic Direction = 'D' // we listen, and a SOCKS client says where to go there
)

// An Endpoint is an address, as in package net.
type Endpoint struct {
	Network string // tcp or unix
	Address string
}

func (e Endpoint) String() string { return e.Address }

// A Forward is a forwarded port. Without a Target each connection is a SOCKS
// client that says where it wants to go.
type Forward struct {
	Direction Direction
	Listen    Endpoint
	Target    Endpoint
}

// ParseForward reads the argument of ssh(1)'s options -L, -R and -D: of the first
// two [BIND:]PORT:HOST:PORT, of the others [BIND:]PORT, which -R has too. A path
// takes the place of a side in the first two.
func ParseForward(d Direction, spec string) (Forward, error) {
	f := Forward{Direction: d}
	parts, err := splitSpec(spec)
	if err != nil {
		return f, fmt.Errorf("-%c %s: %w", d, spec, err)
	}
	ok := false
	if f.Listen, parts, ok = takeListen(parts, d); ok {
		switch {
		case len(parts) == 0:
			ok = d != Local
		case d == Dynamic:
			ok = false
		case len(parts) == 1 && strings.HasPrefix(parts[0], "/"):
			f.Target = Endpoint{"unix", parts[0]}
		case len(parts) == 2 && isPort(parts[1]) && parts[1] != "0" && parts[0] != "":
			f.Target = Endpoint{"tcp", net.JoinHostPort(parts[0], parts[1])}
		default:
			ok = false
		}
	}
	if !ok {
		form := "[BIND:]PORT:HOST:PORT"
		if d == Dynamic {
			form = "[BIND:]PORT"
		}
		return f, fmt.Errorf("-%c %s is not a forwarded port: write %s, with an IPv6 address in brackets", d, spec, form)
	}
	return f, nil
}

// takeListen takes the side that listens off the parts of a specification.
func takeListen(parts []string, d Direction) (Endpoint, []string, bool) {
	const loopback = "localhost"
	switch {
	case strings.HasPrefix(parts[0], "/") && d != Dynamic:
		return Endpoint{"unix", parts[0]}, parts[1:], true
	case isPort(parts[0]):
		return Endpoint{"tcp", net.JoinHostPort(loopback, parts[0])}, parts[1:], true
	case len(parts) > 1 && isPort(parts[1]):
		host := parts[0]
		if host == "*" {
			host = "" // every address
		}
		return Endpoint{"tcp", net.JoinHostPort(host, parts[1])}, parts[2:], true
	}
	return Endpoint{}, nil, false
}

// splitSpec splits at colons outside of brackets, and takes the brackets away.
func splitSpec(spec string) ([]string, error) {
	var parts []string
	for rest := spec; ; {
		if strings.HasPrefix(rest, "[") {
			address, after, ok := strings.Cut(rest[1:], "]")
			if _, err := netip.ParseAddr(address); !ok || err != nil {
				return nil, errors.New("what is in brackets is no address")
			}
			parts = append(parts, address)
			if after == "" {
				return parts, nil
			}
			if rest, ok = strings.CutPrefix(after, ":"); !ok {
				return nil, errors.New("a colon is missing after the bracket")
			}
			continue
		}
		part, after, more := strings.Cut(rest, ":")
		parts = append(parts, part)
		if !more {
			return parts, nil
		}
		rest = after
	}
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// Open listens on every port of list, and carries their connections until ctx
// ends; wg waits for that. If one cannot be opened, none is. told, if not nil, is
// told of what happens to single connections, and of ports that the guest chose.
func Open(ctx context.Context, wg *sync.WaitGroup, client *ssh.Client, list []Forward, told func(string)) error {
	var opened []net.Listener
	for _, f := range list {
		ln, err := f.listen(client)
		if err != nil {
			for _, ln := range opened {
				ln.Close()
			}
			return fmt.Errorf("-%c %s: %w", f.Direction, f.Listen, err)
		}
		opened = append(opened, ln)
	}
	for i, f := range list {
		ln := opened[i]
		if a, ok := ln.Addr().(*net.TCPAddr); ok && f.Direction == Remote && strings.HasSuffix(f.Listen.Address, ":0") && told != nil {
			told(fmt.Sprintf("the guest listens on port %d for %s", a.Port, f.Target))
		}
		wg.Go(func() {
			relay.Serve(ctx, ln, forwardConns, func(ctx context.Context, conn net.Conn) {
				if err := f.carry(ctx, client, conn); err != nil && ctx.Err() == nil && told != nil {
					told(fmt.Sprintf("-%c %s: %v", f.Direction, f.Listen, err))
				}
			})
		})
	}
	return nil
}

// listen opens the side that listens.
func (f Forward) listen(client *ssh.Client) (net.Listener, error) {
	if f.Direction == Remote {
		return client.Listen(f.Listen.Network, f.Listen.Address)
	}
	return net.Listen(f.Listen.Network, f.Listen.Address)
}

// dial connects to the other side.
func (f Forward) dial(ctx context.Context, client *ssh.Client, to Endpoint) (net.Conn, error) {
	if f.Direction == Remote {
		var d net.Dialer
		return d.DialContext(ctx, to.Network, to.Address)
	}
	return client.DialContext(ctx, to.Network, to.Address)
}

// carry carries one connection.
func (f Forward) carry(ctx context.Context, client *ssh.Client, conn net.Conn) error {
	to := f.Target
	socks := to == Endpoint{}
	if socks {
		var err error
		if to, err = readTarget(conn); err != nil {
			return err
		}
	}
	other, err := f.dial(ctx, client, to)
	if socks {
		if rerr := socks5.WriteReply(conn, socks5.ReplyFor(err), netip.AddrPort{}); err == nil && rerr != nil {
			other.Close()
			return rerr
		}
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	a, ok1 := conn.(relay.Conn)
	b, ok2 := other.(relay.Conn)
	if !ok1 || !ok2 {
		other.Close()
		return fmt.Errorf("a %T or a %T cannot end one direction alone", conn, other)
	}
	return relay.Join(ctx, a, b)
}

// readTarget asks a SOCKS client where it wants to go.
func readTarget(conn net.Conn) (Endpoint, error) {
	// A channel of SSH has no deadlines: there the session bounds all.
	_ = conn.SetDeadline(time.Now().Add(socksTime))
	if _, err := socks5.ReadGreeting(conn, socks5.MethodNone); err != nil {
		return Endpoint{}, err
	}
	to, err := socks5.ReadRequest(conn)
	if err != nil {
		var refused *socks5.ReplyError
		if errors.As(err, &refused) {
			_ = socks5.WriteReply(conn, refused.Reply, netip.AddrPort{})
		}
		return Endpoint{}, err
	}
	_ = conn.SetDeadline(time.Time{})
	return Endpoint{"tcp", to.String()}, nil
}
