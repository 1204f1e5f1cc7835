//go:build linux

package vhostuser

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The driver in this file is the other side of the device, in the same
// process: QEMU's end of the vhost-user socket, and a guest's rings in a
// memory file. It maps the memory itself, elsewhere than the device does.

const (
	guestBase = 0x40000000     // guest physical address of the memory
	userBase  = 0x7f1200000000 // what the front end calls it
	guestSize = 24 << 20
	guestCID  = 3

	ringSize  = 128
	ringSpace = 0x10000 // for each ring: its three parts, and indirect tables
	buffers   = 2 * ringSpace
	rxBuffer  = 4096
	txBuffer  = headerSize + 64<<10
)

var le = binary.LittleEndian

// A testDevice is a Device with its Serve running and a front end connected.
type testDevice struct {
	*Device
	t     testing.TB
	front *frontEnd
	path  string
	serve chan error // the result of Serve
	end   context.CancelFunc
}

// socketDir is short: t.TempDir names the test, and a socket path is bounded.
func socketDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "vu")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newTestDevice(t testing.TB, change ...func(*Config)) *testDevice {
	t.Helper()
	cfg := Config{CID: guestCID, Path: filepath.Join(socketDir(t), "v"), Logf: t.Logf}
	for _, f := range change {
		f(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	td := &testDevice{Device: d, t: t, path: cfg.Path}
	td.start()
	t.Cleanup(func() {
		td.stop()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if n := d.Stats().Open; n != 0 {
			t.Errorf("%d connections are open after Close", n)
		}
	})
	return td
}

// start runs Serve on a new front end.
func (td *testDevice) start() {
	td.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		td.t.Fatal(err)
	}
	td.front = &frontEnd{t: td.t, fd: fds[0]}
	ctx, cancel := context.WithCancel(context.Background())
	td.end = cancel
	td.serve = make(chan error, 1)
	result, device := td.serve, td.Device
	go func() { result <- device.Serve(ctx, os.NewFile(uintptr(fds[1]), "front")) }()
}

// stop hangs up and returns what Serve did.
func (td *testDevice) stop() error {
	if td.serve == nil {
		return nil
	}
	td.front.close()
	err := <-td.serve
	td.serve = nil
	td.end()
	return err
}

// A frontEnd speaks vhost-user as QEMU does.
type frontEnd struct {
	t  testing.TB
	fd int
}

func (f *frontEnd) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

func (f *frontEnd) send(r request, flags uint32, payload []byte, fds ...int) {
	f.t.Helper()
	b := le.AppendUint32(nil, uint32(r))
	b = le.AppendUint32(b, messageVersion|flags)
	b = le.AppendUint32(b, uint32(len(payload)))
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, err := unix.SendmsgN(f.fd, append(b, payload...), oob, nil, unix.MSG_NOSIGNAL); err != nil {
		f.t.Fatalf("send message %d: %v", r, err)
	}
}

// receive returns the payload of an answer.
func (f *frontEnd) receive(r request) ([]byte, error) {
	f.t.Helper()
	head := make([]byte, messageHeaderSize)
	if err := f.readFull(head); err != nil {
		return nil, err
	}
	if got := request(le.Uint32(head)); got != r {
		f.t.Fatalf("answer to message %d, want %d", got, r)
	}
	if flags := le.Uint32(head[4:]); flags&messageReply == 0 || flags&messageVersionMask != messageVersion {
		f.t.Fatalf("answer to %d has flags %#x", r, flags)
	}
	payload := make([]byte, le.Uint32(head[8:]))
	return payload, f.readFull(payload)
}

func (f *frontEnd) readFull(p []byte) error {
	for len(p) > 0 {
		n, err := unix.Read(f.fd, p)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		p = p[max(n, 0):]
	}
	return nil
}

func (f *frontEnd) ask(r request, payload ...byte) []byte {
	f.t.Helper()
	f.send(r, 0, payload)
	answer, err := f.receive(r)
	if err != nil {
		f.t.Fatalf("message %d: %v", r, err)
	}
	return answer
}

// order sends a message that has no answer of its own and waits until it is
// done.
func (f *frontEnd) order(r request, payload []byte, fds ...int) {
	f.t.Helper()
	f.send(r, messageNeedReply, payload, fds...)
	answer, err := f.receive(r)
	if err != nil || le.Uint64(answer) != 0 {
		f.t.Fatalf("message %d: %v, %v", r, answer, err)
	}
}

func u64(v uint64) []byte       { return le.AppendUint64(nil, v) }
func state2(a, b uint32) []byte { return le.AppendUint32(le.AppendUint32(nil, a), b) }

// A driver is the guest's virtio driver.
type driver struct {
	t     testing.TB
	front *frontEnd
	memfd int
	mem   []byte
	ring  [numRings]*driverRing

	lastPort uint32 // that openRaw has used
}

// A driverRing is the driver's side of a virtqueue.
type driverRing struct {
	d         *driver
	at        int // in the memory
	eventIdx  bool
	avail     uint16
	used      uint16
	kick      int
	call      int
	doorbells int
}

func (r *driverRing) descAt() int     { return r.at }
func (r *driverRing) availAt() int    { return r.at + 0x4000 }
func (r *driverRing) usedAt() int     { return r.at + 0x6000 }
func (r *driverRing) indirectAt() int { return r.at + 0x8000 }

type driverOptions struct {
	noEventIdx bool
	noProtocol bool // as QEMU before 7.2: no protocol features, no SET_VRING_ENABLE
}

// newDriver does what QEMU and a guest do until the rings run.
func newDriver(t testing.TB, front *frontEnd, opt driverOptions) *driver {
	t.Helper()
	memfd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	const offset = 0x100000 // of the region in its file, as microvm has it
	if err := unix.Ftruncate(memfd, guestSize+offset); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(memfd, offset, guestSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, front: front, memfd: memfd, mem: mem, lastPort: 7000}
	t.Cleanup(func() {
		unix.Munmap(mem)
		unix.Close(memfd)
	})
	features := uint64(featuresOffered)
	if got := le.Uint64(front.ask(reqGetFeatures)); got != features {
		t.Fatalf("features %#x, want %#x", got, features)
	}
	if opt.noEventIdx {
		features &^= featureEventIdx
	}
	if opt.noProtocol {
		features &^= featureProtocol
	} else {
		if got := le.Uint64(front.ask(reqGetProtocolFeatures)); got != protocolOffered {
			t.Fatalf("protocol features %#x", got)
		}
		front.send(reqSetProtocolFeatures, 0, u64(protocolOffered))
		if got := le.Uint64(front.ask(reqGetQueueNum)); got != numRings {
			t.Fatalf("%d queues", got)
		}
		answer := front.ask(reqGetConfig, append(state2(0, 8), make([]byte, 12)...)...)
		if len(answer) != 20 || le.Uint64(answer[12:]) != guestCID {
			t.Fatalf("config = %x", answer)
		}
	}
	front.send(reqSetOwner, 0, nil)
	front.send(reqSetFeatures, 0, u64(features))
	d.setMemory(offset)
	for i := range d.ring {
		r := &driverRing{d: d, at: i * ringSpace, eventIdx: !opt.noEventIdx}
		d.ring[i] = r
		d.startRing(i, 0, !opt.noProtocol)
		t.Cleanup(func() {
			unix.Close(r.kick)
			unix.Close(r.call)
		})
	}
	front.ask(reqGetFeatures) // all before it is done
	return d
}

func (d *driver) setMemory(offset uint64) {
	table := state2(1, 0)
	for _, v := range []uint64{guestBase, guestSize, userBase, offset} {
		table = le.AppendUint64(table, v)
	}
	d.front.send(reqSetMemTable, 0, table, d.memfd)
}

// startRing tells the device of a ring and starts it.
func (d *driver) startRing(i int, base uint32, enable bool) {
	d.t.Helper()
	r := d.ring[i]
	for _, fd := range []*int{&r.kick, &r.call} {
		if *fd != 0 {
			unix.Close(*fd)
		}
		var err error
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			d.t.Fatal(err)
		}
	}
	f, index := d.front, uint32(i)
	f.send(reqSetVringCall, 0, u64(uint64(index)), r.call)
	f.send(reqSetVringNum, 0, state2(index, ringSize))
	f.send(reqSetVringBase, 0, state2(index, base))
	f.send(reqSetVringAddr, 0, r.addresses(index))
	f.send(reqSetVringKick, 0, u64(uint64(index)), r.kick)
	if enable {
		f.send(reqSetVringEnable, 0, state2(index, 1))
	}
	f.ask(reqGetFeatures)
}

// addresses is the payload of SET_VRING_ADDR.
func (r *driverRing) addresses(index uint32) []byte {
	addr := state2(index, 0)
	for _, at := range []int{r.descAt(), r.usedAt(), r.availAt(), 0} {
		addr = le.AppendUint64(addr, userBase+uint64(at))
	}
	return addr
}

// stopRing is what QEMU does when the guest resets the device.
func (d *driver) stopRing(i int) uint32 {
	d.t.Helper()
	answer := d.front.ask(reqGetVringBase, state2(uint32(i), 0)...)
	return le.Uint32(answer[4:])
}

// desc writes a descriptor into a table at an offset of the memory.
func (d *driver) desc(table, i int, addr uint64, length uint32, flags, next uint16) {
	b := d.mem[table+i*descSize:]
	le.PutUint64(b[0:], addr)
	le.PutUint32(b[8:], length)
	le.PutUint16(b[12:], flags)
	le.PutUint16(b[14:], next)
}

// offer makes the chain at head available and kicks when the device wants it.
func (r *driverRing) offer(head uint16) {
	slot := int(r.avail) % ringSize
	le.PutUint16(r.d.mem[r.availAt()+4+2*slot:], head)
	r.publish(r.avail + 1)
}

// publish sets the available index.
func (r *driverRing) publish(index uint16) {
	old := r.avail
	r.avail = index
	store32(r.d.mem, r.availAt(), uint32(index)<<16)
	fence()
	wanted := load32(r.d.mem, r.usedAt())&usedNoNotify == 0
	if r.eventIdx {
		event := load16(r.d.mem, r.usedAt()+4+8*ringSize)
		wanted = index-event-1 < index-old
	}
	if wanted {
		r.doorbell()
	}
}

func (r *driverRing) doorbell() {
	r.doorbells++
	signal(r.kick)
}

// take returns a buffer that the device gave back. When there is none it asks
// for an interrupt and reports false.
func (r *driverRing) take() (head uint16, n uint32, ok bool) {
	for range 2 {
		if index := uint16(load32(r.d.mem, r.usedAt()) >> 16); index != r.used {
			elem := r.d.mem[r.usedAt()+4+8*(int(r.used)%ringSize):]
			r.used++
			return uint16(le.Uint32(elem)), le.Uint32(elem[4:]), true
		}
		store16(r.d.mem, r.availAt()+4+2*ringSize, r.used)
		fence()
	}
	return 0, 0, false
}

// wait waits for an interrupt of any of the rings.
func (d *driver) wait(timeout time.Duration, rings ...*driverRing) bool {
	var fds []unix.PollFd
	for _, r := range rings {
		fds = append(fds, unix.PollFd{Fd: int32(r.call), Events: unix.POLLIN})
	}
	n, err := unix.Poll(fds, int(timeout/time.Millisecond))
	if err != nil && !errors.Is(err, unix.EINTR) {
		d.t.Error(err)
	}
	for _, fd := range fds {
		if fd.Revents != 0 {
			var b [8]byte
			unix.Read(int(fd.Fd), b[:])
		}
	}
	return n > 0
}

// sendRaw puts one packet into the transmit queue as header and payload in one
// buffer and waits until the device has given it back.
func (d *driver) sendRaw(h header, payload []byte) {
	d.t.Helper()
	b := h.marshal()
	d.sendBytes(append(b[:], payload...))
}

func (d *driver) sendBytes(b []byte) {
	d.t.Helper()
	copy(d.mem[buffers:], b)
	r := d.ring[queueTX]
	d.desc(r.descAt(), 0, guestBase+buffers, uint32(len(b)), 0, 0)
	r.offer(0)
	d.reclaim(r)
}

// reclaim waits until the device has given back one buffer, and returns how
// much it wrote there.
func (d *driver) reclaim(r *driverRing) uint32 {
	d.t.Helper()
	for range 100 {
		if _, n, ok := r.take(); ok {
			return n
		}
		d.wait(100*time.Millisecond, r)
	}
	d.t.Fatal("the device does not give the buffer back")
	return 0
}

// receiveRaw offers one buffer and returns the packet that comes in it.
func (d *driver) receiveRaw() (header, []byte) {
	d.t.Helper()
	h, payload, ok := d.tryReceiveRaw(10 * time.Second)
	if !ok {
		d.t.Fatal("no packet from the device")
	}
	return h, payload
}

func (d *driver) tryReceiveRaw(patience time.Duration) (header, []byte, bool) {
	d.t.Helper()
	r := d.ring[queueRX]
	const at = buffers + 1<<20
	if r.avail == r.used { // no buffer is waiting from the last time
		d.desc(r.descAt(), 0, guestBase+at, rxBuffer, descWrite, 0)
		r.offer(0)
	}
	for end := time.Now().Add(patience); ; {
		if _, n, ok := r.take(); ok {
			if n < headerSize || n > rxBuffer {
				d.t.Fatalf("packet of %d bytes", n)
			}
			h := parseHeader((*[headerSize]byte)(d.mem[at:]))
			if h.length != n-headerSize {
				d.t.Fatalf("payload of %d bytes in a packet of %d", h.length, n)
			}
			return h, append([]byte(nil), d.mem[at+headerSize:at+int(n)]...), true
		}
		if time.Now().After(end) {
			return header{}, nil, false
		}
		d.wait(min(patience, 100*time.Millisecond), r)
	}
}

// expect receives a packet and checks what it is.
func (d *driver) expect(o op, host, guest uint32) (header, []byte) {
	d.t.Helper()
	h, payload := d.receiveRaw()
	if h.op != o || h.srcPort != host && host != 0 || h.dstPort != guest {
		d.t.Fatalf("packet %+v, want op %d from port %d to %d", h, o, host, guest)
	}
	if h.srcCID != hostCID || h.dstCID != guestCID || h.socketType != typeStream {
		d.t.Fatalf("packet %+v has other addresses or another type", h)
	}
	return h, payload
}

// packet is a header of the guest with a large buffer announced.
func packet(o op, guest, host uint32) header {
	return header{
		srcCID: guestCID, dstCID: hostCID, srcPort: guest, dstPort: host,
		socketType: typeStream, op: o, bufAlloc: 256 << 10,
	}
}
