package udp

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"bake/internal/agent/datagram"
	"bake/internal/wire"
)

// benchRig is both halves joined by a Unix socket, which stands for vsock.
func benchRig(b *testing.B) *datagram.Conn {
	path := filepath.Join(b.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, Options{Gate: new(gate)}) }()
	c, err := datagram.Dial(ctx, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return c
}

// BenchmarkOut is what the guest can send, paced by what arrives.
func BenchmarkOut(b *testing.B) {
	for _, size := range []int{64, 1400, 60000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := benchRig(b)
			sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			defer sink.Close()
			_ = sink.SetReadBuffer(4 << 20)
			var arrived atomic.Int64
			go func() {
				buf := make([]byte, 1<<16)
				for {
					if _, _, err := sink.ReadFromUDPAddrPort(buf); err != nil {
						return
					}
					arrived.Add(1)
				}
			}()
			d := wire.Datagram{
				Kind: wire.DatagramUDP, Source: netip.AddrPortFrom(guest4, 1),
				Destination: sink.LocalAddr().(*net.UDPAddr).AddrPort(), Payload: make([]byte, size),
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			window := int64(max(4, (256<<10)/(size+100)))
			sent := int64(0)
			for b.Loop() {
				for stalled := time.Now(); sent-arrived.Load() >= window; {
					if time.Since(stalled) > time.Second {
						sent = arrived.Load() // they were lost
					}
					time.Sleep(10 * time.Microsecond)
				}
				c.Send(&d)
				sent++
			}
		})
	}
}

// BenchmarkExchange is a question with its answer through both halves.
func BenchmarkExchange(b *testing.B) {
	for _, size := range []int{64, 1400, 60000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := benchRig(b)
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			go func() {
				buf := make([]byte, 1<<16)
				for {
					n, from, err := conn.ReadFromUDPAddrPort(buf)
					if err != nil {
						return
					}
					_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
				}
			}()
			answered := make(chan struct{}, 1)
			c.Receive(func(*wire.Datagram) { answered <- struct{}{} }, func() {})
			d := wire.Datagram{
				Kind: wire.DatagramUDP, Source: netip.AddrPortFrom(guest4, 1),
				Destination: conn.LocalAddr().(*net.UDPAddr).AddrPort(), Payload: bytes.Repeat([]byte("x"), size),
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				c.Send(&d)
				<-answered
			}
		})
	}
}
