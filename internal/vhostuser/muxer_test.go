//go:build linux

package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A fakePoller stands in for epoll: the tests say what happens.
type fakePoller struct {
	watched map[int]bool // descriptors, and whether for output
	fail    error
}

func (p *fakePoller) add(fd int, _, _ int32) error {
	if p.fail == nil {
		p.watched[fd] = false
	}
	return p.fail
}

func (p *fakePoller) output(fd int, _, _ int32, on bool) error {
	p.watched[fd] = on
	return p.fail
}

// A bench is a muxer on a work bench: no loop, no epoll, and a queue in plain
// memory.
type bench struct {
	*muxer
	t    testing.TB
	poll *fakePoller
	mem  []byte
	rx   *virtqueue
	used uint16
}

const benchRing = 8

func newBench(t testing.TB, max int) *bench {
	poll := &fakePoller{watched: make(map[int]bool)}
	b := &bench{
		muxer: newMuxer(guestCID, filepath.Join(socketDir(t), "v"), max, poll, new(counters)),
		t:     t,
		poll:  poll,
		mem:   make([]byte, 1<<20),
	}
	t.Cleanup(b.muxer.close)
	mem := &memory{regions: []region{{regionSpec{guest: 0, user: 0, size: uint64(len(b.mem))}, b.mem}}}
	var err error
	b.rx, err = newVirtqueue(mem, ringLayout{size: benchRing, desc: 0, avail: 0x1000, used: 0x2000}, 0, toGuest, true)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// packets returns what the muxer has for the guest, up to the number of
// buffers given to it.
func (b *bench) packets(buffers int) (hs []header) {
	b.t.Helper()
	for range buffers {
		slot := int(b.used) % benchRing
		const at = 0x8000
		le.PutUint64(b.mem[slot*descSize:], at)
		le.PutUint32(b.mem[slot*descSize+8:], 4096)
		le.PutUint16(b.mem[slot*descSize+12:], descWrite)
		le.PutUint16(b.mem[0x1000+4+2*slot:], uint16(slot))
		if index := uint16(load32(b.mem, 0x1000) >> 16); index == b.used {
			store32(b.mem, 0x1000, uint32(index+1)<<16)
		}
		if _, err := b.fill(b.rx, 100); err != nil {
			b.t.Fatal(err)
		}
		if b.rx.usedIdx == b.used {
			break
		}
		b.used++
		hs = append(hs, parseHeader((*[headerSize]byte)(b.mem[at:])))
	}
	return hs
}

// say has the guest send a packet.
func (b *bench) say(h header, payload []byte) {
	b.t.Helper()
	h.length = uint32(len(payload))
	p := h.marshal()
	packet := append(p[:], payload...)
	if err := b.receive(&chain{segments: [][]byte{packet}, size: len(packet)}); err != nil {
		b.t.Fatal(err)
	}
}

// client adds a connection of the host that is to be greeted, and returns the
// other end.
func (b *bench) client() (*conn, net.Conn) {
	b.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := b.add(fds[0], stateGreeting)
	if err != nil {
		b.t.Fatal(err)
	}
	b.timers.set(c, time.Now().Add(greetingTime))
	return c, fileConn(b.t, fds[1])
}

func TestDeadlines(t *testing.T) {
	later := func(d time.Duration) time.Time { return time.Now().Add(d) }
	t.Run("greeting", func(t *testing.T) {
		b := newBench(t, 10)
		c, _ := b.client()
		b.expire(later(greetingTime - time.Second))
		if c.state != stateGreeting {
			t.Error("gone too early")
		}
		b.expire(later(greetingTime))
		if c.state != stateClosed || b.open != 0 {
			t.Error("a client that says nothing stays")
		}
	})
	t.Run("request", func(t *testing.T) {
		b := newBench(t, 10)
		c, host := b.client()
		io.WriteString(host, "CONNECT 5\n")
		b.event(c, unix.EPOLLIN)
		b.expire(later(time.Hour))
		if c.state != stateRequesting {
			t.Fatal("a client does not wait for a guest without a driver")
		}
		if hs := b.packets(1); len(hs) != 1 || hs[0].op != opRequest || hs[0].dstPort != 5 {
			t.Fatalf("packets %+v", hs)
		}
		b.expire(later(requestTime))
		if hs := b.packets(1); c.state != stateClosed || len(hs) != 1 || hs[0].op != opReset {
			t.Errorf("state %d, packets %+v; want a RST", c.state, hs)
		}
	})
	t.Run("backlog", func(t *testing.T) {
		b := newBench(t, 10)
		// A listener with room for one, which has come.
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: b.listenerPath(6)}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		for guest := range uint32(2) {
			b.say(packet(opRequest, guest, 6), nil)
		}
		if hs := b.packets(8); len(hs) != 1 || hs[0].op != opResponse || hs[0].dstPort != 0 {
			t.Fatalf("packets %+v, want one response", hs)
		}
		tries := 0
		for ; b.open == 2 && tries < 1000; tries++ {
			b.expire(later(lastConnectPause))
		}
		if tries < 10 || tries == 1000 {
			t.Errorf("gave up after %d tries", tries)
		}
		if hs := b.packets(8); len(hs) != 1 || hs[0].op != opReset || hs[0].dstPort != 1 {
			t.Errorf("packets %+v, want a RST", hs)
		}
	})
	t.Run("backlog with room later", func(t *testing.T) {
		b := newBench(t, 10)
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: b.listenerPath(6)}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		for guest := range uint32(2) {
			b.say(packet(opRequest, guest, 6), nil)
		}
		b.packets(1)
		conn, _, err := unix.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(conn)
		b.expire(later(time.Second))
		if hs := b.packets(8); len(hs) != 1 || hs[0].op != opResponse || hs[0].dstPort != 1 {
			t.Errorf("packets %+v, want the second response", hs)
		}
	})
}

// The guest cannot make the list of RST packets grow without end.
func TestResetsAreBounded(t *testing.T) {
	b := newBench(t, 10)
	for i := range uint32(3 * maxResets) {
		b.say(packet(opData, i, 1), nil)
	}
	if len(b.resets) != maxResets {
		t.Errorf("%d RST packets wait, want %d", len(b.resets), maxResets)
	}
	b.linger()
	if len(b.resets) != 0 {
		t.Error("RST packets wait for a machine that has ended")
	}
}

// When epoll takes no more, connections fail and nothing leaks.
func TestPollerFails(t *testing.T) {
	b := newBench(t, 10)
	b.poll.fail = errors.New("no room")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.add(fd, stateGreeting); err == nil {
		t.Error("no error")
	}
	l, err := net.Listen("unix", b.listenerPath(6))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.say(packet(opRequest, 1, 6), nil)
	if hs := b.packets(1); len(hs) != 1 || hs[0].op != opReset {
		t.Errorf("packets %+v, want a RST", hs)
	}
	if b.open != 0 || len(b.byKey) != 0 {
		t.Errorf("%d connections left", b.open)
	}
}

// A late event for a slot that has another connection by now is dropped.
func TestStaleEvent(t *testing.T) {
	b := newBench(t, 10)
	c, _ := b.client()
	b.remove(c)
	d, _ := b.client()
	if d.slot != c.slot {
		t.Fatalf("slot %d, want the free one, %d", d.slot, c.slot)
	}
	if b.find(c.slot, c.generation) != nil || b.find(d.slot, d.generation) != d || b.find(99, 0) != nil {
		t.Error("a slot is found by what it is not")
	}
}

func TestHostPorts(t *testing.T) {
	b := newBench(t, 10)
	b.nextPort = lastHostPort
	b.byKey[connKey{firstHostPort, 5}] = new(conn)
	var got []string
	for range 3 {
		got = append(got, fmt.Sprint(b.hostPort(5).host))
	}
	want := []string{fmt.Sprint(lastHostPort), fmt.Sprint(firstHostPort + 1), fmt.Sprint(firstHostPort + 2)}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("ports %v, want %v", got, want)
	}
	delete(b.byKey, connKey{firstHostPort, 5})
}

func TestFIFO(t *testing.T) {
	var q fifo
	in, out := int32(0), int32(0)
	for round := range 5000 {
		for range round % 7 {
			q.push(&conn{slot: in})
			in++
		}
		for range min(q.len(), round%5) {
			if c := q.pop(); c.slot != out {
				t.Fatalf("popped %d, want %d", c.slot, out)
			}
			out++
		}
	}
	for ; q.len() > 0; out++ {
		if c := q.pop(); c.slot != out {
			t.Fatalf("popped %d, want %d", c.slot, out)
		}
	}
	if in != out {
		t.Errorf("%d in, %d out", in, out)
	}
}
