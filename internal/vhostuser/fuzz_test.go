//go:build linux

package vhostuser

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func fileConn(t testing.TB, fd int) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socketpair")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func FuzzHeader(f *testing.F) {
	h := packet(opShutdown, 5, 6)
	h.flags, h.length, h.fwdCnt = 3, 1<<31, 7
	seed := h.marshal()
	f.Add(seed[:])
	f.Add(bytes.Repeat([]byte{0xff}, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerSize {
			return
		}
		raw := [headerSize]byte(b)
		h := parseHeader(&raw)
		if got := h.marshal(); got != raw {
			t.Errorf("%x became %x", raw, got)
		}
	})
}

// FuzzVirtqueue takes buffers out of a memory that the fuzzer has written: the
// rings, the descriptors, everything. Whatever comes out must lie in there.
func FuzzVirtqueue(f *testing.F) {
	const size = 8
	layout := ringLayout{size: size, desc: 0, avail: 0x80, used: 0xc0}
	seed := func(descs ...descriptor) {
		b := make([]byte, 0x200)
		for i, d := range descs {
			le.PutUint64(b[i*descSize:], d.addr)
			le.PutUint32(b[i*descSize+8:], d.length)
			le.PutUint16(b[i*descSize+12:], d.flags)
			le.PutUint16(b[i*descSize+14:], d.next)
		}
		le.PutUint16(b[0x82:], 3) // three available: 0, 1, 0
		le.PutUint16(b[0x86:], 1)
		for dir := fromGuest; dir <= bothWays; dir++ {
			f.Add(b, uint8(dir))
		}
	}
	seed(descriptor{0x100, 44, 0, 0}, descriptor{0x1f0, 16, 0, 0})
	seed(descriptor{0x100, 44, descNext, 1}, descriptor{0x110, 44, descNext, 0})
	seed(descriptor{0, 16, descIndirect, 0}, descriptor{16, 32, descIndirect, 0})
	seed(descriptor{0x100, 100, descWrite, 0}, descriptor{1 << 63, 1 << 31, descWrite, 0})
	f.Fuzz(func(t *testing.T, image []byte, dir uint8) {
		if len(image) > 1<<16 || direction(dir) > bothWays {
			return
		}
		// Two regions that are next to each other, so that buffers may cross.
		b := make([]byte, 0x200+len(image)&^7)
		copy(b, image)
		const cut = 0x180
		mem := &memory{regions: []region{
			{regionSpec{guest: 0, user: 0, size: cut}, b[:cut:cut]},
			{regionSpec{guest: cut, user: 1 << 40, size: uint64(len(b) - cut)}, b[cut:]},
		}}
		q, err := newVirtqueue(mem, layout, 0, direction(dir), true)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 * size {
			ch, err := q.peek()
			if err != nil || ch == nil {
				break
			}
			total := 0
			for _, s := range ch.segments {
				if len(s) == 0 || len(s) != cap(s) || !inside(s, b) {
					t.Fatalf("segment of %d bytes, capacity %d, is not in the memory", len(s), cap(s))
				}
				total += len(s)
			}
			if ch.readable > len(ch.segments) || direction(dir) == fromGuest && len(ch.answer()) > 0 || direction(dir) == toGuest && len(ch.request()) > 0 {
				t.Fatalf("%d of %d segments are for reading, direction %d", ch.readable, len(ch.segments), dir)
			}
			if total != ch.size || len(ch.segments) > maxSegments {
				t.Fatalf("size %d, sum %d, %d segments", ch.size, total, len(ch.segments))
			}
			var head [headerSize]byte
			if got := ch.copyOut(head[:]); got != (total >= headerSize) {
				t.Fatalf("header read: %v of %d bytes", got, total)
			}
			rest := 0
			for _, s := range ch.slice(nil, headerSize, 100) {
				rest += len(s)
			}
			if want := min(100, max(0, total-headerSize)); rest != want {
				t.Fatalf("%d bytes behind the header, want %d", rest, want)
			}
			q.pop(ch.size)
			q.wantsSignal()
			if _, err := q.listen(); err != nil {
				break
			}
		}
	})
}

// inside reports whether s is a part of b.
func inside(s, b []byte) bool {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
	return at >= from && at+uintptr(len(s)) <= from+uintptr(len(b))
}

// A deafWatcher stands in for the loop.
type deafWatcher struct{ broke int }

func (*deafWatcher) watch(int, int) error { return nil }
func (*deafWatcher) unwatch(int)          {}
func (*deafWatcher) stopping()            {}
func (w *deafWatcher) broken(error)       { w.broke++ }

// FuzzMessages feeds a session whatever a front end may write, with a memory
// file and an eventfd for descriptors.
func FuzzMessages(f *testing.F) {
	message := func(r request, payload []byte) []byte {
		b := le.AppendUint32(nil, uint32(r))
		b = le.AppendUint32(b, messageVersion|messageNeedReply)
		b = le.AppendUint32(b, uint32(len(payload)))
		return append(b, payload...)
	}
	table := state2(1, 0)
	for _, v := range []uint64{0, 0x10000, userBase, 0} {
		table = le.AppendUint64(table, v)
	}
	addr := state2(0, 0)
	for _, v := range []uint64{userBase, userBase + 0x2000, userBase + 0x1000, 0} {
		addr = le.AppendUint64(addr, v)
	}
	start := bytes.Join([][]byte{
		message(reqSetFeatures, u64(featuresOffered)),
		message(reqSetProtocolFeatures, u64(protocolOffered)),
		message(reqSetMemTable, table),
		message(reqSetVringNum, state2(0, 128)),
		message(reqSetVringBase, state2(0, 0)),
		message(reqSetVringAddr, addr),
		message(reqSetVringKick, u64(0)),
		message(reqSetVringEnable, state2(0, 1)),
		message(reqGetVringBase, state2(0, 0)),
	}, nil)
	f.Add(start)
	f.Add(bytes.Repeat(start, 2))
	for r := range request(30) {
		f.Add(message(r, nil))
		f.Add(message(r, make([]byte, 8)))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		if len(stream) > 1<<15 {
			return
		}
		memfd, err := unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(memfd)
		if err := unix.Ftruncate(memfd, 0x10000); err != nil {
			t.Fatal(err)
		}
		s := newSession(vsockModel(guestCID), new(deafWatcher))
		defer s.close()
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		r := messageReader{fd: fds[1]}
		defer unix.Close(r.fd)
		defer r.close()
		unix.Write(fds[0], stream)
		unix.Shutdown(fds[0], unix.SHUT_WR)
		for {
			m, err := r.next()
			if err != nil {
				if m != nil {
					t.Error("message and error")
				}
				return
			}
			if m == nil {
				t.Fatal("a message is awaited after the end")
			}
			if m.request == reqSetMemTable || m.request == reqSetVringKick || m.request == reqSetVringCall {
				fd, err := unix.Dup(memfd)
				if err != nil {
					t.Fatal(err)
				}
				m.fds = append(m.fds, fd)
			}
			answer, err := s.handle(m)
			if len(m.fds) != 0 {
				t.Error("descriptors are left over")
			}
			if len(answer) > 0 && (len(answer) < messageHeaderSize || len(answer) != messageHeaderSize+int(le.Uint32(answer[8:]))) {
				t.Errorf("answer %x", answer)
			}
			if err != nil {
				return
			}
			for i := range s.rings {
				if q := s.rings[i].queue; q != nil {
					if _, err := q.peek(); err != nil {
						s.fail(err)
					}
				}
			}
		}
	})
}

func FuzzGreeting(f *testing.F) {
	for _, s := range []string{"CONNECT 52", "connect 4294967294", "CONNECT 4294967295", "CONNECT", "CONNECT  1", "CONNECT +1", "CONNECT 1_0", "CONNECT 0x1", "", " ", "OK 1", "CONNECT 1\r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		port, ok := parseConnect(line)
		if !ok {
			return
		}
		word, number, _ := strings.Cut(string(line), " ")
		if !strings.EqualFold(word, "connect") || port == portAny {
			t.Errorf("accepted %q as %d", line, port)
		}
		if got := strings.TrimLeft(number, "0"); got != strings.TrimLeft(fmt.Sprint(port), "0") {
			t.Errorf("%q is %d", line, port)
		}
	})
}

// FuzzMuxer plays a guest and a host that do anything in any order: each pair
// of bytes is a step. The bounds must hold throughout.
func FuzzMuxer(f *testing.F) {
	f.Add([]byte{0x10, 0, 0x50, 9, 0x40, 1, 0xb0, 0, 0xc0, 5, 0xd0, 0})
	f.Add([]byte{0xa0, 0, 0x80, 0, 0x20, 0, 0xc0, 5, 0x90, 3, 0x40, 3, 0xb0, 0})
	f.Add([]byte{0x10, 1, 0x11, 1, 0x12, 1, 0x50, 0xff, 0x50, 0xff, 0x50, 0xff, 0x90, 1, 0x40, 3, 0xe0, 0, 0xf0, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 400 {
			return
		}
		const max = 4
		b := newBench(t, max)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.listenerPath(6), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var ends []net.Conn // of the host
		defer func() {
			for _, c := range ends {
				c.Close()
			}
		}()
		var last header // to answer with its ports
		scratch := make([]byte, 64<<10)
		for ; len(steps) >= 2; steps = steps[2:] {
			do, arg := steps[0]>>4, steps[1]
			who := uint32(steps[0] & 3)
			switch {
			case do <= 8 && do != 0 || do == 0 && arg&1 != 0:
				h := packet(op(do), who, 6)
				if steps[0]&4 != 0 { // a connection of the host
					h.srcPort, h.dstPort = last.dstPort, last.srcPort
				}
				h.flags, h.fwdCnt = uint32(arg), uint32(arg)*100
				if steps[0]&8 != 0 {
					h.bufAlloc = uint32(arg)
				}
				var payload []byte
				if op(do) == opData {
					payload = scratch[:int(arg)*257%len(scratch)]
				}
				b.say(h, payload)
			case do == 9 && len(ends) > 0:
				b.hostActs(ends[int(who)%len(ends)].(*net.UnixConn), arg, scratch)
			case do == 10 && b.open < max:
				c, host := b.client()
				ends = append(ends, host)
				io.WriteString(host, "CONNECT 5\n"[arg%3:])
				b.event(c, unix.EPOLLIN)
			case do == 11:
				if hs := b.packets(int(arg % benchRing)); len(hs) > 0 {
					last = hs[len(hs)-1]
				}
			case do == 12:
				for i := range b.slots {
					if c := b.slots[i].conn; c != nil && c.state != stateConnecting {
						b.event(c, pollEvents(c.fd))
					}
				}
			case do == 13:
				for len(b.timers) > 0 && arg > 0 {
					b.expire(b.timers[0].timer.at)
					arg--
				}
			case do == 14:
				b.guestReset()
			case do == 15 && len(steps) == 2:
				b.linger()
			}
			b.check(max)
		}
	})
}

// hostActs does something with the host's end of a connection.
func (b *bench) hostActs(c *net.UnixConn, arg byte, scratch []byte) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		switch arg % 6 {
		case 0:
			unix.SendmsgN(int(fd), scratch[:int(arg)*200], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		case 1:
			unix.Shutdown(int(fd), unix.SHUT_WR)
		case 2:
			unix.Shutdown(int(fd), unix.SHUT_RD)
		case 3, 4:
			unix.Recvfrom(int(fd), scratch, unix.MSG_DONTWAIT)
		}
	})
	if arg%6 == 5 {
		c.Close()
	}
}

// pollEvents is what epoll would say.
func pollEvents(fd int) uint32 {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT | unix.POLLRDHUP}}
	unix.Poll(p, 0)
	return uint32(uint16(p[0].Revents))
}

// check looks at what must always hold.
func (b *bench) check(max int) {
	b.t.Helper()
	open, waiting := 0, 0
	for i := range b.slots {
		c := b.slots[i].conn
		if c == nil {
			continue
		}
		open++
		if c.pending.len() > bufAlloc || len(c.pending.b) > bufAlloc {
			b.t.Fatalf("%d bytes are kept for the host", c.pending.len())
		}
		if c.pending.len() > 0 && !c.blocked {
			b.t.Fatal("bytes are kept that nothing will move")
		}
		if c.state == stateClosed || c.state == stateDraining && c.pending.len() == 0 {
			b.t.Fatalf("a connection in state %d has a slot", c.state)
		}
		if c.ready() && !c.queued {
			b.t.Fatalf("a connection in state %d has something for the guest and is not in the queue", c.state)
		}
		if c.short() && c.timer.index == 0 {
			b.t.Fatal("a connection waits for credit that nobody asks for")
		}
		if keyed := b.byKey[c.key] == c; keyed != (c.state == stateRequesting || c.state == stateConnecting || c.state == stateOpen) {
			b.t.Fatalf("a connection in state %d: known by its ports %v", c.state, keyed)
		}
		if c.queued {
			waiting++
		}
	}
	if open != b.open || open > max || int64(open) != b.counters.open.Load() || len(b.byKey) > open {
		b.t.Fatalf("%d connections, counted %d, known %d, limit %d", open, b.open, len(b.byKey), max)
	}
	if b.waiting.len() < waiting || len(b.resets) > maxResets {
		b.t.Fatalf("%d in the queue, %d RST packets", b.waiting.len(), len(b.resets))
	}
}
