package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

// quiet is an address of the loopback (127.0.0.0/8, all of it on Linux) that
// nobody else listens on, so that a port that was free stays so.
func quiet() string {
	n := os.Getpid()
	return fmt.Sprintf("127.99.%d.%d", n>>8&0xff, n&0xff)
}

// portOf is where a published port ended up.
func portOf(a net.Addr) uint16 {
	switch a := a.(type) {
	case *net.TCPAddr:
		return uint16(a.Port)
	case *net.UDPAddr:
		return uint16(a.Port)
	}
	return 0
}

// occupied is a TCP port of the quiet address that somebody listens on.
func occupied(t *testing.T) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp4", quiet()+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return portOf(ln.Addr())
}

func listenAll(t *testing.T, ports ...Port) (*Published, error) {
	t.Helper()
	p, err := Listen(ports)
	if err == nil {
		t.Cleanup(p.Close)
	} else if p != nil {
		t.Errorf("Listen returns %v with its error", p)
	}
	return p, err
}

func TestListen(t *testing.T) {
	p, err := listenAll(t,
		port(TCP, "127.0.0.1", 0, 0, 80),
		port(UDP, "127.0.0.1", 0, 0, 53),
		port(TCP, "127.0.0.1", 1024, 65535, 81),
		port(UDP, "127.0.0.1", 1024, 65535, 54),
	)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.TCP) != 2 || p.TCP[0].VMPort != 80 || p.TCP[1].VMPort != 81 || len(p.UDP) != 2 || p.UDP[0].VMPort != 53 || p.UDP[1].VMPort != 54 {
		t.Fatalf("got %+v", p)
	}
	for _, ln := range p.TCP {
		if a := ln.Addr().(*net.TCPAddr).AddrPort(); a.Addr() != ln.Host || a.Port() == 0 {
			t.Errorf("port %d is published on %v", ln.VMPort, a)
		}
	}
	for _, c := range p.UDP {
		if a := c.LocalAddr().(*net.UDPAddr).AddrPort(); a.Addr() != c.Host || a.Port() == 0 {
			t.Errorf("port %d is published on %v", c.VMPort, a)
		}
	}
}

// An address of IPv6 is not one of IPv4 as well, "::" neither.
func TestListenIPv6(t *testing.T) {
	v6, err := net.Listen("tcp6", "[::]:0")
	if err != nil {
		t.Logf("this host has no IPv6: %v", err)
		_, err := listenAll(t, port(TCP, "::", 0, 0, 80))
		if err == nil || !strings.Contains(err.Error(), ":: port 0/tcp") {
			t.Errorf("got %v", err)
		}
		return
	}
	v6.Close()
	p, err := listenAll(t, port(TCP, "::", 0, 0, 80), port(UDP, "::1", 0, 0, 53))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp4", net.JoinHostPort(quiet(), fmt.Sprint(portOf(p.TCP[0].Addr()))))
	if err == nil {
		conn.Close()
		t.Error(":: takes connections of IPv4, which were not asked for")
	}
	conn, err = net.Dial("tcp6", net.JoinHostPort("::1", fmt.Sprint(portOf(p.TCP[0].Addr()))))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// Of a range the first free port is taken, and one that must have a port comes
// before one that can have another, whatever their order.
func TestListenTakesWhatIsFree(t *testing.T) {
	first := occupied(t)
	p, err := listenAll(t, port(TCP, quiet(), first, 65535, 80))
	if err != nil {
		t.Fatal(err)
	}
	n := portOf(p.TCP[0].Addr())
	if n <= first {
		t.Errorf("port %d is taken of the range from %d, which is in use", n, first)
	}
	p.Close()
	p, err = listenAll(t, port(TCP, quiet(), n, 65535, 80), port(TCP, quiet(), n, n, 81))
	if err != nil {
		t.Fatal(err)
	}
	if got := portOf(p.TCP[1].Addr()); got != n || p.TCP[1].VMPort != 81 {
		t.Errorf("port %d of the VM is on %d, want 81 on %d", p.TCP[1].VMPort, got, n)
	}
}

func TestListenErrors(t *testing.T) {
	n := occupied(t)
	for _, tt := range []struct {
		port  Port
		errno syscall.Errno
		want  string
	}{
		{port(TCP, quiet(), n, n, 80), syscall.EADDRINUSE, "choose another host port, or 0"},
		{port(TCP, "192.0.2.1", 8080, 8080, 80), syscall.EADDRNOTAVAIL, "no interface of this host has that address"},
		{port(UDP, "192.0.2.1", 8080, 8080, 80), syscall.EADDRNOTAVAIL, "192.0.2.1 port 8080/udp"},
	} {
		_, err := listenAll(t, tt.port)
		if !errors.Is(err, tt.errno) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.port.Host.String()) {
			t.Errorf("%v: %v, want %v with %q", tt.port, err, tt.errno, tt.want)
		}
	}
	// What was taken before the error is given back.
	was, err := listenAll(t, port(TCP, quiet(), 0, 0, 80))
	if err != nil {
		t.Fatal(err)
	}
	free := portOf(was.TCP[0].Addr())
	was.Close()
	if _, err := listenAll(t, port(TCP, quiet(), free, free, 80), port(TCP, quiet(), n, n, 81)); err == nil {
		t.Fatal("a port in use is taken")
	}
	if _, err := listenAll(t, port(TCP, quiet(), free, free, 80)); err != nil {
		t.Errorf("after a failure: %v", err)
	}
	// A conflict among them is one before any is opened.
	if _, err := listenAll(t, port(TCP, quiet(), 1, 1, 80), port(TCP, quiet(), 1, 1, 81)); err == nil || !strings.Contains(err.Error(), "the same port 1") {
		t.Errorf("two on one port: %v", err)
	}
}

// Every error of listen(2) has its cure.
func TestExplain(t *testing.T) {
	p := port(UDP, "::1", 80, 80, 53)
	for errno, want := range map[syscall.Errno]string{
		syscall.EADDRINUSE:    "choose another host port",
		syscall.EACCES:        "from 1024 on",
		syscall.EADDRNOTAVAIL: "no interface",
		syscall.EAFNOSUPPORT:  "does not have that kind of address",
		syscall.EMFILE:        "ulimit -n",
		syscall.EIO:           "choose another address",
	} {
		err := p.explain(80, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", errno)})
		if !errors.Is(err, errno) || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "publish port 53/udp of the VM on ::1 port 80/udp: ") {
			t.Errorf("%v: %v, want %q", errno, err, want)
		}
	}
	r := port(TCP, "127.0.0.1", 8000, 8010, 80)
	if err := r.explain(8010, syscall.EADDRINUSE); !strings.Contains(err.Error(), "ports 8000-8010/tcp: address already in use; all of them are") {
		t.Errorf("got %v", err)
	}
}

func TestPortString(t *testing.T) {
	for want, p := range map[string]Port{
		"127.0.0.1:8080:80":     port(TCP, "127.0.0.1", 8080, 8080, 80),
		"[::1]:0:53/udp":        port(UDP, "::1", 0, 0, 53),
		"0.0.0.0:8000-8010:80":  port(TCP, "0.0.0.0", 8000, 8010, 80),
		"[fe80::1%eth0]:1:2":    {TCP, netip.MustParseAddr("fe80::1%eth0"), 1, 1, 2},
		"127.0.0.1:8080:80/udp": port(UDP, "127.0.0.1", 8080, 8080, 80),
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v is written %q, want %q", p, got, want)
		}
	}
}
