//go:build linux

package hostnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

func TestUDP(t *testing.T) {
	everyGuest(t, func(t *testing.T, r *rig) {
		var mu sync.Mutex
		var got []wire.Datagram
		r.host.onDatagram(func(d *wire.Datagram) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, *d)
			got[len(got)-1].Payload = bytes.Clone(d.Payload)
			r.h.Deliver(&wire.Datagram{Kind: wire.DatagramUDP, Source: d.Destination, Destination: d.Source, Payload: d.Payload})
		})
		for _, to := range servers {
			conn := dialUDP(t, r, to)
			for _, n := range []int{0, 1, 1400, 60_000, 65_492, 65_507} {
				b := blob(n)
				if _, err := conn.Write(b); err != nil {
					t.Fatalf("send %d bytes: %v", n, err)
				}
				in := make([]byte, 70_000)
				m, err := conn.Read(in)
				if err != nil || !bytes.Equal(in[:m], b) {
					t.Fatalf("%v: %d bytes came back as %d, %v", to, n, m, err)
				}
				mu.Lock()
				d := got[len(got)-1]
				mu.Unlock()
				if d.Kind != wire.DatagramUDP || d.Destination != to || !bytes.Equal(d.Payload, b) {
					t.Errorf("the host has a datagram of %d bytes for %v", len(d.Payload), d.Destination)
				}
			}
			conn.Close()
		}
	})
}

func dialUDP(t *testing.T, r *rig, to netip.AddrPort) net.Conn {
	t.Helper()
	conn, err := r.DialUDP(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	return conn
}

func TestUnreachableDatagrams(t *testing.T) {
	r := kernelRig(t)
	for _, c := range []struct {
		host uint16
		want syscall.Errno
	}{
		{uint16(syscall.ECONNREFUSED), syscall.ECONNREFUSED},
		{uint16(syscall.EHOSTUNREACH), syscall.EHOSTUNREACH},
		{uint16(syscall.ENETUNREACH), syscall.ENETUNREACH},
		{uint16(syscall.EPERM), syscall.EHOSTUNREACH},
	} {
		r.host.onDatagram(func(d *wire.Datagram) {
			r.h.Deliver(&wire.Datagram{Kind: wire.DatagramUnreachable, Code: c.host, Source: d.Source, Destination: d.Destination})
		})
		for _, to := range servers {
			conn := dialUDP(t, r, to)
			// Soft errors are for sockets that ask for them (IP_RECVERR of ip(7)).
			raw, err := conn.(*net.UDPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			_ = raw.Control(func(fd uintptr) {
				if to.Addr().Is4() {
					err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVERR, 1)
				} else {
					err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Read(make([]byte, 1)); errnoOf(err) != c.want {
				t.Errorf("%v: the host has %v, the guest reads %d, %v", to, syscall.Errno(c.host), n, err)
			}
		}
	}
}

// What becomes of an echo request is told to the socket that sent it.
func TestUnreachablePings(t *testing.T) {
	r := kernelRig(t)
	r.host.onDatagram(func(d *wire.Datagram) {
		r.h.Deliver(&wire.Datagram{
			Kind: wire.DatagramUnreachable, Code: uint16(syscall.EHOSTUNREACH), Flow: uint32(d.Kind), Source: d.Source, Destination: d.Destination,
		})
	})
	for _, to := range servers {
		domain, proto, level, option := unix.AF_INET, unix.IPPROTO_ICMP, unix.SOL_IP, unix.IP_RECVERR
		message := []byte{icmpEcho, 0, 0, 0, 0x12, 0x34, 0, 1}
		var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: as4(to.Addr())}
		if to.Addr().Is6() {
			domain, proto, level, option = unix.AF_INET6, unix.IPPROTO_ICMPV6, unix.SOL_IPV6, unix.IPV6_RECVERR
			message[0], sa = icmpv6Echo, &unix.SockaddrInet6{Addr: to.Addr().As16()}
		}
		binary.BigEndian.PutUint16(message[2:], ^fold(sum(message, 0))) // the kernel does it for IPv6
		var fd int
		var err error
		r.guest.(*kernelGuest).ns.do(func() { fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto) })
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(limit / time.Second)})
		if err := errors.Join(unix.SetsockoptInt(fd, level, option, 1), unix.Connect(fd, sa), unix.Sendto(fd, message, 0, nil)); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(fd, make([]byte, 100)); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("%v: the guest reads %d, %v", to, n, err)
		}
	}
}

// One write of an application can be many datagrams.
func TestSegmentedUDP(t *testing.T) {
	r := kernelRig(t)
	datagrams := make(chan []byte, 100)
	r.host.onDatagram(func(d *wire.Datagram) { datagrams <- bytes.Clone(d.Payload) })
	for _, to := range servers {
		conn := dialUDP(t, r, to)
		raw, err := conn.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1200) })
		if err != nil {
			t.Fatal(err)
		}
		b := blob(12_100)
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			want := b[:min(len(b), 1200)]
			b = b[len(want):]
			if got := <-datagrams; !bytes.Equal(got, want) {
				t.Errorf("%v: a datagram of %d bytes comes where one of %d was sent", to, len(got), len(want))
			}
		}
	}
}

func TestPing(t *testing.T) {
	r := kernelRig(t)
	g := r.guest.(*kernelGuest)
	var asked []wire.Datagram
	var mu sync.Mutex
	r.host.onDatagram(func(d *wire.Datagram) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, *d)
		r.h.Deliver(&wire.Datagram{Kind: wire.DatagramEcho, Source: d.Destination, Destination: d.Source, Payload: d.Payload})
	})
	for _, c := range []struct {
		to   netip.Addr
		host bool
	}{{network.HostIPv4, true}, {network.HostIPv6, true}, {server4.Addr(), false}, {server6.Addr(), false}} {
		for _, size := range []int{0, 56, 1400, 65_000, 65_507} {
			mu.Lock()
			asked = nil
			mu.Unlock()
			data := blob(size)
			got := ping(t, g, c.to, 7, data)
			if !bytes.Equal(got, data) {
				t.Errorf("ping %v with %d bytes: %d come back", c.to, size, len(got))
			}
			mu.Lock()
			if c.host != (len(asked) == 0) || !c.host && (asked[0].Kind != wire.DatagramEcho || asked[0].Destination != netip.AddrPortFrom(c.to, 7)) {
				t.Errorf("ping %v asks the host for %v", c.to, asked)
			}
			mu.Unlock()
		}
	}
}

// ping sends an echo request from a raw socket, whose reader sees the checksum,
// and returns the reply's data.
func ping(t *testing.T, g *kernelGuest, to netip.Addr, sequence uint16, data []byte) []byte {
	t.Helper()
	domain, proto, request, reply := unix.AF_INET, unix.IPPROTO_ICMP, byte(icmpEcho), byte(icmpEchoReply)
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: as4(to)}
	if to.Is6() {
		domain, proto, request, reply = unix.AF_INET6, unix.IPPROTO_ICMPV6, icmpv6Echo, icmpv6EchoReply
		sa = &unix.SockaddrInet6{Addr: to.As16()}
	}
	var fd int
	var err error
	g.ns.do(func() { fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto) })
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(limit / time.Second)})
	message := binary.BigEndian.AppendUint16([]byte{request, 0, 0, 0, 0x12, 0x34}, sequence)
	message = append(message, data...)
	binary.BigEndian.PutUint16(message[2:], ^fold(sum(message, 0))) // the kernel does it for IPv6
	if err := unix.Sendto(fd, message, 0, sa); err != nil {
		t.Fatal(err)
	}
	in := make([]byte, 70_000)
	for {
		n, _, err := unix.Recvfrom(fd, in, 0)
		if err != nil {
			t.Fatalf("ping %v with %d bytes: %v", to, len(data), err)
		}
		m := in[:n]
		if to.Is4() {
			if fold(sum(m[:20], 0)) != 0xffff {
				t.Error("the IPv4 header's checksum is wrong")
			}
			m = m[20:]
			if m[0] == reply && fold(sum(m, 0)) != 0xffff {
				t.Error("the ICMP checksum is wrong")
			}
		}
		if m[0] == reply && bytes.Equal(m[4:8], message[4:8]) {
			return bytes.Clone(m[8:])
		}
	}
}
