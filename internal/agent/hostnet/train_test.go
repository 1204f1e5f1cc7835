//go:build linux

package hostnet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// A trainCase is what a train is given, and the datagrams of each packet that
// it makes of that.
type trainCase struct {
	name  string
	given []wire.Datagram
	want  [][]int // lengths
}

var trainSources = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7"), netip.MustParseAddrPort("192.0.2.1:8"), netip.MustParseAddrPort("[2001:db8::1]:7")}

// ofSource makes datagrams of a source with some lengths.
func ofSource(source int, lengths ...int) []wire.Datagram {
	var list []wire.Datagram
	for i, n := range lengths {
		d := wire.Datagram{Kind: wire.DatagramUDP, Source: trainSources[source], Payload: blob(n)}
		if n > 0 {
			d.Payload[0] = byte(i)
		}
		d.Destination = netip.AddrPortFrom(network.IPv4, 4000)
		if d.Source.Addr().Is6() {
			d.Destination = netip.AddrPortFrom(network.IPv6, 4000)
		}
		list = append(list, d)
	}
	return list
}

func repeated(length, n int) []int {
	lengths := make([]int, n)
	for i := range lengths {
		lengths[i] = length
	}
	return lengths
}

func trainCases() []trainCase {
	return []trainCase{
		{"one", ofSource(0, 1400), [][]int{{1400}}},
		{"many", ofSource(0, repeated(1400, 40)...), [][]int{repeated(1400, 40)}},
		{"IPv6", ofSource(2, repeated(1400, 40)...), [][]int{repeated(1400, 40)}},
		{"a shorter one is the last", ofSource(0, 100, 100, 99, 99, 99), [][]int{{100, 100, 99}, {99, 99}}},
		{"a longer one is the next", ofSource(0, 100, 101, 101), [][]int{{100}, {101, 101}}},
		{"empty ones are alone", ofSource(0, 9, 9, 0, 9, 9), [][]int{{9, 9}, {0}, {9, 9}}},
		{"other sources", slices.Concat(ofSource(0, 5, 5), ofSource(1, 5, 5), ofSource(2, 5), ofSource(0, 5)), [][]int{{5, 5}, {5, 5}, {5}, {5}}},
		{"no more than fit a packet", ofSource(0, repeated(30000, 5)...), [][]int{repeated(30000, 2), repeated(30000, 2), {30000}}},
		{"the longest", ofSource(0, wire.MaxDatagram, wire.MaxDatagram), [][]int{{wire.MaxDatagram}, {wire.MaxDatagram}}},
		{"no more than are written at once", ofSource(0, repeated(1, trainLimit+1)...), [][]int{repeated(1, trainLimit), {1}}},
	}
}

// Packets of a train are what the kernel takes for segmented ones.
func TestTrainPackets(t *testing.T) {
	for _, c := range trainCases() {
		t.Run(c.name, func(t *testing.T) {
			h, packets := pipedHostnet(t)
			h.segments = true
			train := h.NewTrain()
			for i := range c.given {
				train.Add(&c.given[i])
			}
			train.Flush()
			train.Flush() // nothing
			rest := c.given
			for i, lengths := range c.want {
				head, b := packets(t)
				p, ok := parsePacket(b)
				if !ok || len(p.bytes) != len(b) || p.proto != protoUDP {
					t.Fatalf("packet %d is none: %x", i, b[:min(len(b), 48)])
				}
				from, _, payload, ok := parseUDP(p.payload())
				if !ok || from != rest[0].Source.Port() || p.src != rest[0].Source.Addr() {
					t.Fatalf("packet %d is from %v, port %d", i, p.src, from)
				}
				var want []byte
				for range lengths {
					want = append(want, rest[0].Payload...)
					rest = rest[1:]
				}
				if !bytes.Equal(payload, want) {
					t.Errorf("packet %d has %d bytes, want %d of %d datagrams", i, len(payload), len(want), len(lengths))
				}
				size := 0
				if len(lengths) > 1 {
					size = lengths[0]
				}
				if got := udpSegment(&head); got != size {
					t.Errorf("packet %d has segments of %d bytes, want %d", i, got, size)
				}
				// The rest of the sum is for the kernel to do, per segment.
				if head[0] != unix.VIRTIO_NET_HDR_F_NEEDS_CSUM || int(binary.NativeEndian.Uint16(head[6:])) != p.header || binary.NativeEndian.Uint16(head[8:]) != 6 {
					t.Errorf("packet %d has the header %x", i, head)
				}
			}
			if len(rest) > 0 {
				t.Errorf("%d datagrams are left", len(rest))
			}
		})
	}
}

// pipedHostnet is one without anything behind its device, and what it writes
// there.
func pipedHostnet(t *testing.T) (*Hostnet, func(*testing.T) ([vnetSize]byte, []byte)) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20)
	d, err := newDevice(os.NewFile(uintptr(pair[0]), "device"), network.MTU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	t.Cleanup(func() { unix.Close(pair[1]) })
	return &Hostnet{network: *network, device: d}, func(t *testing.T) (head [vnetSize]byte, b []byte) {
		t.Helper()
		b = make([]byte, 70000)
		n, errno := readPacket(uintptr(pair[1]), &head, b)
		if errno != 0 {
			t.Fatalf("read a packet: %v", errno)
		}
		return head, b[:n]
	}
}

// A socket of the guest gets them one by one, in order, whatever the packets
// were, and so does one behind a device that takes no segmented packets.
func TestTrainArrives(t *testing.T) {
	for _, segments := range []bool{true, false} {
		t.Run(fmt.Sprint("segments ", segments), func(t *testing.T) {
			r := kernelRig(t)
			if segments && !r.h.segments {
				t.Skip("this kernel takes no segmented UDP packets (Linux 6.2 does)")
			}
			r.h.segments = segments
			train := r.h.NewTrain()
			asked := make(chan netip.AddrPort, 1)
			r.host.onDatagram(func(d *wire.Datagram) { asked <- d.Source })
			for _, c := range trainCases() {
				t.Run(c.name, func(t *testing.T) {
					// One socket for each source, that the order is clear.
					conns := map[netip.AddrPort]net.Conn{}
					locals := map[netip.AddrPort]netip.AddrPort{}
					for _, d := range c.given {
						if conns[d.Source] == nil {
							conn := dialUDP(t, r, d.Source)
							if _, err := conn.Write([]byte("here")); err != nil {
								t.Fatal(err)
							}
							select {
							case locals[d.Source] = <-asked:
							case <-time.After(limit):
								t.Fatal("the guest sends nothing")
							}
							conns[d.Source] = conn
						}
					}
					in := make([]byte, 70000)
					rest := c.given
					for _, lengths := range c.want {
						// No more than a socket's buffer has room for.
						part := rest[:len(lengths)]
						rest = rest[len(lengths):]
						for _, d := range part {
							d.Destination = locals[d.Source]
							train.Add(&d)
						}
						train.Flush()
						for i, d := range part {
							n, err := conns[d.Source].Read(in)
							if err != nil || !bytes.Equal(in[:n], d.Payload) {
								t.Fatalf("datagram %d of %d bytes came as one of %d, %v", i, len(d.Payload), n, err)
							}
						}
					}
				})
			}
		})
	}
}
