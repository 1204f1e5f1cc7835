//go:build linux

package vhostuser

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A logbook collects what a device says.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) logf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.text, format+"\n", args...)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Rings that break the rules stop the device, and a reset cures it.
func TestBrokenRings(t *testing.T) {
	const at = guestBase + buffers // of some buffer
	tests := []struct {
		name  string
		queue int
		want  string // in the log
		do    func(d *driver, r *driverRing)
	}{
		{"head out of range", queueTX, "descriptor index 128 in a table of 128", func(d *driver, r *driverRing) {
			r.offer(ringSize)
		}},
		{"head far out of range", queueTX, "descriptor index 65535", func(d *driver, r *driverRing) {
			r.offer(65535)
		}},
		{"next out of range", queueTX, "descriptor index 128", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, 44, descNext, ringSize)
			r.offer(0)
		}},
		{"loop", queueTX, "has a loop", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, 44, descNext, 1)
			d.desc(r.descAt(), 1, at, 44, descNext, 0)
			r.offer(0)
		}},
		{"loop to itself, empty", queueTX, "has a loop", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 5, at, 0, descNext, 5)
			r.offer(5)
		}},
		{"huge length", queueTX, "outside of the guest's memory", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, 0xffffffff, 0, 0)
			r.offer(0)
		}},
		{"one byte too far", queueTX, "outside of the guest's memory", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, guestBase+guestSize-44, 45, 0, 0)
			r.offer(0)
		}},
		{"address before the memory", queueTX, "outside of the guest's memory", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, guestBase-1, 44, 0, 0)
			r.offer(0)
		}},
		{"address of the front end", queueTX, "outside of the guest's memory", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, userBase+buffers, 44, 0, 0)
			r.offer(0)
		}},
		{"address that wraps", queueTX, "wraps", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, 0xffffffffffffff00, 0x200, 0, 0)
			r.offer(0)
		}},
		{"writable in the transmit queue", queueTX, "wrong direction", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, 44, descWrite, 0)
			r.offer(0)
		}},
		{"indirect in indirect", queueTX, "inside an indirect table", func(d *driver, r *driverRing) {
			d.desc(r.indirectAt(), 0, guestBase+uint64(r.indirectAt()), descSize, descIndirect, 0)
			d.desc(r.descAt(), 0, guestBase+uint64(r.indirectAt()), descSize, descIndirect, 0)
			r.offer(0)
		}},
		{"loop in indirect", queueTX, "has a loop", func(d *driver, r *driverRing) {
			d.desc(r.indirectAt(), 0, at, 1, descNext, 0)
			d.desc(r.descAt(), 0, guestBase+uint64(r.indirectAt()), descSize, descIndirect, 0)
			r.offer(0)
		}},
		{"next out of the indirect table", queueTX, "descriptor index 1 in a table of 1", func(d *driver, r *driverRing) {
			d.desc(r.indirectAt(), 0, at, 44, descNext, 1)
			d.desc(r.descAt(), 0, guestBase+uint64(r.indirectAt()), descSize, descIndirect, 0)
			r.offer(0)
		}},
		{"indirect of an odd size", queueTX, "indirect table of 17 bytes", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, guestBase+uint64(r.indirectAt()), 17, descIndirect, 0)
			r.offer(0)
		}},
		{"empty indirect", queueTX, "indirect table of 0 bytes", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, guestBase+uint64(r.indirectAt()), 0, descIndirect, 0)
			r.offer(0)
		}},
		{"huge indirect", queueTX, "indirect table of 4294967280 bytes", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, guestBase, 0xfffffff0, descIndirect, 0)
			r.offer(0)
		}},
		{"indirect outside", queueTX, "indirect table at", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, guestBase+guestSize-8, descSize, descIndirect, 0)
			r.offer(0)
		}},
		{"indirect in the middle", queueTX, "has a next one", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, guestBase+uint64(r.indirectAt()), descSize, descIndirect|descNext, 1)
			r.offer(0)
		}},
		{"available index runs ahead", queueTX, "ahead of", func(d *driver, r *driverRing) {
			r.publish(r.avail + ringSize + 1)
			r.doorbell()
		}},
		{"available index shrinks", queueTX, "ahead of", func(d *driver, r *driverRing) {
			d.sendRaw(packet(opReset, 1, 1), nil)
			r.publish(r.avail - 1)
			r.doorbell()
		}},
		{"readable in the receive queue", queueRX, "wrong direction", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, rxBuffer, 0, 0)
			r.offer(0)
			d.sendRaw(packet(opData, 1, 1), nil) // provokes a RST
		}},
		{"no room for a header", queueRX, "receive buffer of 43 bytes", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, 43, descWrite, 0)
			r.offer(0)
			d.sendRaw(packet(opData, 1, 1), nil)
		}},
		{"receive buffer outside", queueRX, "outside of the guest's memory", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, guestBase+guestSize-100, rxBuffer, descWrite, 0)
			r.offer(0)
			d.sendRaw(packet(opData, 1, 1), nil)
		}},
		{"ring outside", queueTX, "not in the guest's memory", func(d *driver, r *driverRing) {
			at := r.at
			r.at = guestSize - 0x6000
			d.front.send(reqSetVringAddr, 0, r.addresses(queueTX))
			r.at = at
		}},
		{"ring not aligned", queueTX, "not aligned", func(d *driver, r *driverRing) {
			at := r.at
			r.at += 2
			d.front.send(reqSetVringAddr, 0, r.addresses(queueTX))
			r.at = at
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			book := new(logbook)
			td := newTestDevice(t, func(c *Config) { c.Logf = book.logf })
			d := newDriver(t, td.front, driverOptions{})
			host, _ := openRaw(t, td, d)
			test.do(d, d.ring[test.queue])
			if got, err := io.ReadAll(host); len(got) != 0 || err != nil {
				t.Errorf("the host read %q, %v; want the end of its connection", got, err)
			}
			if !strings.Contains(book.String(), test.want) {
				t.Errorf("log %q, want %q", book, test.want)
			}
			// The driver starts anew.
			for i, r := range d.ring {
				d.stopRing(i)
				clear(d.mem[r.at : r.at+ringSpace])
				r.avail, r.used = 0, 0
			}
			for i := range d.ring {
				d.startRing(i, 0, true)
			}
			openRaw(t, td, d)
		})
	}
}

// openRaw has the guest dial the host, packet by packet. It returns the host's
// end and the ports.
func openRaw(t *testing.T, td *testDevice, d *driver) (net.Conn, connKey) {
	t.Helper()
	d.lastPort++
	key := connKey{host: d.lastPort, guest: d.lastPort + 1000}
	l := listenHost(t, td, key.host)
	defer l.Close()
	d.sendRaw(packet(opRequest, key.guest, key.host), nil)
	h, _ := d.expect(opResponse, key.host, key.guest)
	if h.bufAlloc != bufAlloc || h.fwdCnt != 0 {
		t.Fatalf("response %+v announces another buffer than %d", h, bufAlloc)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, key
}

// Packets that break the rules end at most their own connection.
func TestBadPackets(t *testing.T) {
	td := newTestDevice(t)
	d := newDriver(t, td.front, driverOptions{})
	bystander, bystanderKey := openRaw(t, td, d)

	quiet := func(t *testing.T) {
		t.Helper()
		// Whatever there were would come before the answer to this.
		p := packet(opCreditRequest, bystanderKey.guest, bystanderKey.host)
		d.sendRaw(p, nil)
		d.expect(opCreditUpdate, bystanderKey.host, bystanderKey.guest)
	}

	t.Run("truncated header", func(t *testing.T) {
		dropped := td.Stats().Dropped
		for _, n := range []int{0, 1, 43} {
			d.sendBytes(make([]byte, n))
		}
		h := packet(opData, bystanderKey.guest, bystanderKey.host)
		h.length = 1
		d.sendRaw(h, nil) // payload missing
		h.length = 0xffffffff
		d.sendRaw(h, []byte("x"))
		quiet(t)
		if got := td.Stats().Dropped - dropped; got != 5 {
			t.Errorf("%d packets dropped, want 5", got)
		}
	})
	t.Run("another guest's CID", func(t *testing.T) {
		h := packet(opReset, bystanderKey.guest, bystanderKey.host)
		for _, cid := range []uint64{0, 1, 2, 4, guestCID | 1<<32} {
			h.srcCID = cid
			d.sendRaw(h, nil)
		}
		quiet(t)
	})
	t.Run("not to the host", func(t *testing.T) {
		for _, cid := range []uint64{0, 1, 3, 4, 2 | 1<<32} {
			h := packet(opRequest, 5, 6)
			h.dstCID = cid
			d.sendRaw(h, nil)
			got, _ := d.receiveRaw()
			if got.op != opReset || got.srcCID != cid || got.srcPort != 6 || got.dstPort != 5 || got.dstCID != guestCID {
				t.Errorf("to CID %d: %+v, want a RST from there", cid, got)
			}
		}
	})
	t.Run("another type", func(t *testing.T) {
		h := packet(opRequest, bystanderKey.guest, bystanderKey.host)
		h.socketType = 2
		d.sendRaw(h, nil)
		if got, _ := d.receiveRaw(); got.op != opReset || got.socketType != 2 {
			t.Errorf("%+v, want a RST of the same type", got)
		}
		quiet(t) // the stream with the same ports lives
	})
	t.Run("no such connection", func(t *testing.T) {
		for o := range op(10) {
			if o == opRequest || o == opReset {
				continue
			}
			d.sendRaw(packet(o, 5, 6), nil)
			d.expect(opReset, 6, 5)
		}
		d.sendRaw(packet(opReset, 5, 6), nil)
		quiet(t)
	})
	broken := map[string][]header{
		"response out of place": {{op: opResponse}},
		"invalid operation":     {{op: 0}},
		"unknown operation":     {{op: 8}},
		"second request":        {{op: opRequest}},
		"data after shutdown":   {{op: opShutdown, flags: shutdownSend}, {op: opData, length: 1}},
	}
	for name, packets := range broken {
		t.Run(name, func(t *testing.T) {
			host, key := openRaw(t, td, d)
			for _, p := range packets {
				h := packet(p.op, key.guest, key.host)
				h.flags, h.length = p.flags, p.length
				d.sendRaw(h, make([]byte, p.length))
			}
			d.expect(opReset, key.host, key.guest)
			if got, err := io.ReadAll(host); len(got) != 0 || err != nil {
				t.Errorf("host read %q, %v", got, err)
			}
			quiet(t)
		})
	}
	t.Run("more than the buffer", func(t *testing.T) {
		host, key := openRaw(t, td, d)
		h := packet(opData, key.guest, key.host)
		h.length = 64 << 10
		chunk := make([]byte, h.length)
		for range 100 { // the host reads nothing
			d.sendRaw(h, chunk)
			got, _, ok := d.tryReceiveRaw(0)
			if ok && got.op == opReset {
				if n, _ := io.Copy(io.Discard, host); n > 1<<20 {
					t.Errorf("%d bytes were kept for the host", n)
				}
				return
			}
		}
		t.Error("6 MB fit into a buffer of 256 KiB")
	})
	io.WriteString(bystander, "unharmed")
	h, got := d.receiveRaw()
	for h.op == opReset { // one for each packet that came after the first
		h, got = d.receiveRaw()
	}
	if h.op != opData || h.srcPort != bystanderKey.host || string(got) != "unharmed" {
		t.Errorf("bystander received %+v, %q", h, got)
	}
}

// A packet may be cut into descriptors in any way.
func TestScatteredPacket(t *testing.T) {
	td := newTestDevice(t)
	d := newDriver(t, td.front, driverOptions{})
	host, key := openRaw(t, td, d)
	tx, rx := d.ring[queueTX], d.ring[queueRX]

	want := "every byte on its own"
	h := packet(opData, key.guest, key.host)
	h.length = uint32(len(want))
	b := h.marshal()
	packet := append(b[:], want...)
	// The second half of the chain is in an indirect table, which may end one.
	half := len(packet) / 2
	for i, c := range packet {
		at := buffers + 100*i
		d.mem[at] = c
		table, n, last := tx.descAt(), i, false
		if i >= half {
			table, n, last = tx.indirectAt(), i-half, i == len(packet)-1
		}
		flags := uint16(descNext)
		if last {
			flags = 0
		}
		d.desc(table, n, guestBase+uint64(at), 1, flags, uint16(n+1))
	}
	d.desc(tx.descAt(), half, guestBase+uint64(tx.indirectAt()), uint32((len(packet)-half)*descSize), descIndirect, 0)
	tx.offer(0)
	d.reclaim(tx)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(host, got); err != nil || string(got) != want {
		t.Errorf("host read %q, %v", got, err)
	}

	// And the other way: 7 bytes each, with empty ones between.
	for i := range 64 {
		at, length := buffers+1<<20+10*i, uint32(7*(i%2))
		flags := uint16(descWrite | descNext)
		if i == 63 {
			flags = descWrite
		}
		d.desc(rx.descAt(), i, guestBase+uint64(at), length, flags, uint16(i+1))
	}
	rx.offer(0)
	io.WriteString(host, want)
	if n := int(d.reclaim(rx)); n != headerSize+len(want) {
		t.Fatalf("%d bytes in the buffer", n)
	}
	var collected []byte
	for i := 1; i < 64; i += 2 {
		at := buffers + 1<<20 + 10*i
		collected = append(collected, d.mem[at:at+7]...)
	}
	if got := string(collected[headerSize:][:len(want)]); got != want {
		t.Errorf("guest read %q", got)
	}
}

func TestCreditByPacket(t *testing.T) {
	td := newTestDevice(t)
	d := newDriver(t, td.front, driverOptions{})
	host, key := openRaw(t, td, d)

	tell := func(o op, alloc, forwarded uint32) {
		h := packet(o, key.guest, key.host)
		h.bufAlloc, h.fwdCnt = alloc, forwarded
		d.sendRaw(h, nil)
	}
	nothing := func(why string) {
		t.Helper()
		if h, p, ok := d.tryReceiveRaw(50 * time.Millisecond); ok {
			t.Fatalf("%s: received %+v with %d bytes", why, h, len(p))
		}
	}
	data := func(want int) {
		t.Helper()
		if _, p := d.expect(opData, key.host, key.guest); len(p) != want {
			t.Fatalf("%d bytes, want %d", len(p), want)
		}
	}

	tell(opCreditUpdate, 0, 0)
	host.Write(make([]byte, 20000))
	nothing("without any buffer")
	tell(opCreditUpdate, 100, 0) // a buffer smaller than minWindow is used
	data(100)
	nothing("buffer of 100 full")
	tell(opCreditUpdate, 100, 99)
	nothing("1 byte of 100 free")
	tell(opCreditUpdate, 8192, 100) // 8192 free
	data(rxBuffer - headerSize)
	data(rxBuffer - headerSize)
	nothing("88 bytes free are not worth a packet")
	sent := uint32(100 + 2*(rxBuffer-headerSize))
	tell(opCreditUpdate, 8192, 100+minWindow-88-1)
	nothing("one byte less than worth a packet")
	tell(opCreditUpdate, 8192, 100+minWindow-88)
	data(rxBuffer - headerSize)
	sent += rxBuffer - headerSize
	tell(opCreditUpdate, 4, sent+100) // takes more than was sent: a lie
	nothing("with counters that cannot be")
	// In the end the device asks.
	d.expect(opCreditRequest, key.host, key.guest)
	tell(opCreditUpdate, 1<<31, sent)
	for left := 20000 - int(sent); left > 0; left -= min(left, rxBuffer-headerSize) {
		data(min(left, rxBuffer-headerSize))
	}

	// Our side: what the host has taken is announced at half of the smaller
	// buffer, and on request.
	tell(opCreditRequest, 8192, sent)
	if h, _ := d.expect(opCreditUpdate, key.host, key.guest); h.bufAlloc != bufAlloc || h.fwdCnt != 0 {
		t.Errorf("%+v", h)
	}
	h := packet(opData, key.guest, key.host)
	h.bufAlloc, h.fwdCnt, h.length = 8192, 20000, 4095
	d.sendRaw(h, make([]byte, h.length))
	nothing("less than half of the buffer was taken")
	h.length = 1
	d.sendRaw(h, make([]byte, h.length))
	if h, _ := d.expect(opCreditUpdate, key.host, key.guest); h.fwdCnt != 4096 {
		t.Errorf("%+v, want fwd_cnt 4096", h)
	}
}

// A guest that does not confirm the end is not waited for, for long.
func TestGuestIgnoresShutdown(t *testing.T) {
	td := newTestDevice(t)
	d := newDriver(t, td.front, driverOptions{})
	host, key := openRaw(t, td, d)
	host.Close()
	if h, _ := d.expect(opShutdown, key.host, key.guest); h.flags != shutdownBoth {
		t.Errorf("%+v, want both directions", h)
	}
	d.expect(opReset, key.host, key.guest)
	waitFor(t, "the connection to go", func() bool { return td.Stats().Open == 0 })
}

// After both shutdowns Linux may use a port again before it sends a RST.
func TestPortUsedAgain(t *testing.T) {
	td := newTestDevice(t)
	d := newDriver(t, td.front, driverOptions{})
	l := listenHost(t, td, 9)
	for range 3 {
		d.sendRaw(packet(opRequest, 8, 9), nil)
		d.expect(opResponse, 9, 8)
		host, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		host.Close()
		d.expect(opShutdown, 9, 8)
	}
	if s := td.Stats(); s.Resets != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A front end that breaks the protocol ends Serve with an error.
func TestBadFrontEnd(t *testing.T) {
	raw := func(b ...uint32) []byte {
		var p []byte
		for _, v := range b {
			p = le.AppendUint32(p, v)
		}
		return p
	}
	tests := []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"version", raw(1, 2, 0), "speaks version 2"},
		{"huge payload", raw(1, 1, 0xffffffff), "payload of 4294967295 bytes"},
		{"unknown message", raw(999, 1, 0), "not supported"},
		{"short payload", raw(uint32(reqSetFeatures), 1, 4, 0), "payload of 4 bytes, want 8"},
		{"features not offered", raw(uint32(reqSetFeatures), 1, 8, 1, 0), "were not offered"},
		{"ring out of range", raw(uint32(reqSetVringNum), 1, 8, 2, 128), "ring 2 of 2"},
		{"kick without a descriptor", raw(uint32(reqSetVringKick), 1, 8, 0, 0), "no descriptor came along"},
		{"polling", raw(uint32(reqSetVringKick), 1, 8, vringNoFD, 0), "not supported"},
		{"no regions", raw(uint32(reqSetMemTable), 1, 8, 0, 0), "0 regions"},
		{"many regions", raw(uint32(reqSetMemTable), 1, 8, 9, 0), "9 regions"},
		{"regions without descriptors", append(raw(uint32(reqSetMemTable), 1, 40, 1, 0), make([]byte, 32)...), "1 regions and 0 descriptors"},
		{"short table", raw(uint32(reqSetMemTable), 1, 8, 1, 0), "payload of 8 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			td := newTestDevice(t)
			if _, err := unix.Write(td.front.fd, test.bytes); err != nil {
				t.Fatal(err)
			}
			err := <-td.serve
			td.serve = nil
			td.front.close()
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Serve = %v, want %q", err, test.want)
			}
		})
	}
	t.Run("memory beyond its file", func(t *testing.T) {
		td := newTestDevice(t)
		f, err := os.CreateTemp(socketDir(t), "m")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.Truncate(4096)
		for _, region := range [][4]uint64{
			{guestBase, 8192, userBase, 0},
			{guestBase, 4096, userBase, 4096},
			{guestBase, 4096, userBase, ^uint64(0)},
			{guestBase, ^uint64(0), userBase, 0},
			{^uint64(0), 4096, userBase, 0},
			{guestBase, 0, userBase, 0},
			{guestBase, 100, userBase, 10}, // not at a page
		} {
			table := state2(1, 0)
			for _, v := range region {
				table = le.AppendUint64(table, v)
			}
			td.front.send(reqSetMemTable, 0, table, int(f.Fd()))
			err := <-td.serve
			if err == nil || !strings.Contains(err.Error(), "map memory region 0") {
				t.Errorf("region %x: Serve = %v", region, err)
			}
			td.front.close()
			td.start()
		}
	})
	t.Run("unknown message that asks for an answer", func(t *testing.T) {
		td := newTestDevice(t)
		td.front.send(reqSetProtocolFeatures, 0, u64(protocolOffered))
		td.front.send(999, messageNeedReply, nil)
		answer, err := td.front.receive(999)
		if err != nil || !bytes.Equal(answer, u64(1)) {
			t.Errorf("answer %x, %v; want 1", answer, err)
		}
	})
	t.Run("in pieces", func(t *testing.T) {
		td := newTestDevice(t)
		for _, b := range raw(uint32(reqGetFeatures), 1, 0) {
			unix.Write(td.front.fd, []byte{b})
			time.Sleep(time.Millisecond)
		}
		if answer, err := td.front.receive(reqGetFeatures); err != nil || le.Uint64(answer) != featuresOffered {
			t.Errorf("answer %x, %v", answer, err)
		}
	})
	t.Run("more descriptors than possible", func(t *testing.T) {
		td := newTestDevice(t)
		var fds []int
		for range 20 {
			fds = append(fds, 0)
		}
		td.front.send(reqSetOwner, 0, nil, fds...)
		err := <-td.serve
		td.serve = nil
		td.front.close()
		if err == nil || !strings.Contains(err.Error(), "more than 8 descriptors") {
			t.Errorf("Serve = %v", err)
		}
	})
	t.Run("config beyond the end", func(t *testing.T) {
		td := newTestDevice(t)
		for _, p := range [][]byte{state2(0, 9), state2(8, 1), state2(^uint32(0), ^uint32(0))} {
			if answer := td.front.ask(reqGetConfig, append(p, make([]byte, 12)...)...); len(answer) != 0 {
				t.Errorf("answer %x, want none", answer)
			}
		}
		if answer := td.front.ask(reqGetConfig, append(state2(4, 4), make([]byte, 8)...)...); len(answer) != 16 {
			t.Errorf("upper half of the CID: %x", answer)
		}
	})
}
