//go:build linux

package vhostuser

import (
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

// A guest is a small vsock stack over a driver: what Linux does in
// net/vmw_vsock/virtio_transport_common.c, as far as a peer sees it.
type guest struct {
	*driver
	bufAlloc uint32

	mu        sync.Mutex
	changed   *sync.Cond
	conns     map[connKey]*guestConn
	listeners map[uint32]chan *guestConn
	nextPort  uint32
	freeTX    []uint16
	err       error
	indirect  bool

	done chan struct{} // closed when the receiver has ended
	quit chan struct{}
}

type guestConn struct {
	g   *guest
	key connKey

	established, reset bool
	peerShut, ownShut  uint32
	in                 []byte
	tx, rx, taken      uint32 // bytes sent, received, read
	told               uint32 // value of taken in the last packet
	peerAlloc, peerFwd uint32
	resets             int
}

var errReset = errors.New("connection reset")

type guestOptions struct {
	driverOptions
	bufAlloc uint32
	indirect bool
}

func newGuest(t testing.TB, td *testDevice, opt guestOptions, listen ...uint32) *guest {
	t.Helper()
	if opt.bufAlloc == 0 {
		opt.bufAlloc = 256 << 10
	}
	g := &guest{
		driver:    newDriver(t, td.front, opt.driverOptions),
		bufAlloc:  opt.bufAlloc,
		conns:     make(map[connKey]*guestConn),
		listeners: make(map[uint32]chan *guestConn),
		nextPort:  50000,
		indirect:  opt.indirect,
		done:      make(chan struct{}),
		quit:      make(chan struct{}),
	}
	g.changed = sync.NewCond(&g.mu)
	for _, port := range listen {
		g.listen(port)
	}
	rx := g.ring[queueRX]
	for i := range uint16(ringSize) {
		g.freeTX = append(g.freeTX, i)
		g.desc(rx.descAt(), int(i), guestBase+uint64(g.rxAt(i)), rxBuffer, descWrite, 0)
		rx.offer(i)
	}
	go g.run()
	t.Cleanup(g.pause)
	return g
}

// pause ends the receiver, resume starts another.
func (g *guest) pause() {
	close(g.quit)
	<-g.done
}

func (g *guest) resume() {
	g.quit, g.done = make(chan struct{}), make(chan struct{})
	go g.run()
}

func (g *guest) rxAt(i uint16) int { return buffers + int(i)*rxBuffer }
func (g *guest) txAt(i uint16) int {
	return buffers + ringSize*rxBuffer + int(i)%ringSize*txBuffer
}

// run takes what the device gives back until the test ends.
func (g *guest) run() {
	defer close(g.done)
	rx, tx := g.ring[queueRX], g.ring[queueTX]
	for {
		select {
		case <-g.quit:
			return
		default:
		}
		g.mu.Lock()
		for {
			head, n, ok := rx.take()
			if !ok {
				break
			}
			at := g.rxAt(head)
			h := parseHeader((*[headerSize]byte)(g.mem[at:]))
			payload := append([]byte(nil), g.mem[at+headerSize:at+int(n)]...)
			rx.offer(head)
			g.packet(&h, payload)
		}
		g.reclaimTX()
		g.mu.Unlock()
		g.wait(20*time.Millisecond, rx, tx)
	}
}

func (g *guest) reclaimTX() {
	for {
		head, _, ok := g.ring[queueTX].take()
		if !ok {
			return
		}
		g.freeTX = append(g.freeTX, head)
		g.changed.Broadcast()
	}
}

// send puts a packet into the transmit queue; g.mu is held.
func (g *guest) send(h header, payload []byte) {
	for g.reclaimTX(); len(g.freeTX) == 0; g.reclaimTX() {
		g.mu.Unlock() // it may be the receiver that sends: nobody else reclaims then
		time.Sleep(50 * time.Microsecond)
		g.mu.Lock()
	}
	last := len(g.freeTX) - 1
	i := g.freeTX[last]
	g.freeTX = g.freeTX[:last]
	h.srcCID, h.dstCID, h.socketType, h.length = guestCID, hostCID, typeStream, uint32(len(payload))
	b := h.marshal()
	at := g.txAt(i)
	copy(g.mem[at:], b[:])
	copy(g.mem[at+headerSize:], payload)
	tx := g.ring[queueTX]
	if g.indirect {
		table := tx.indirectAt() + int(i)*2*descSize
		g.desc(table, 0, guestBase+uint64(at), headerSize, descNext, 1)
		g.desc(table, 1, guestBase+uint64(at+headerSize), uint32(len(payload)), 0, 0)
		g.desc(tx.descAt(), int(i), guestBase+uint64(table), 2*descSize, descIndirect, 0)
	} else {
		g.desc(tx.descAt(), int(i), guestBase+uint64(at), uint32(headerSize+len(payload)), 0, 0)
	}
	tx.offer(i)
}

func (c *guestConn) send(o op, flags uint32, payload []byte) {
	c.told = c.taken
	c.g.send(header{
		srcPort: c.key.guest, dstPort: c.key.host, op: o, flags: flags,
		bufAlloc: c.g.bufAlloc, fwdCnt: c.taken,
	}, payload)
}

// packet handles one packet of the device; g.mu is held.
func (g *guest) packet(h *header, payload []byte) {
	defer g.changed.Broadcast()
	if h.srcCID != hostCID || h.dstCID != guestCID || h.socketType != typeStream {
		g.fault("packet with wrong addresses or type: %+v", *h)
		return
	}
	key := connKey{host: h.srcPort, guest: h.dstPort}
	c := g.conns[key]
	if h.op == opRequest {
		accept := g.listeners[h.dstPort]
		if accept == nil || c != nil {
			g.send(header{srcPort: h.dstPort, dstPort: h.srcPort, op: opReset}, nil)
			return
		}
		c = &guestConn{g: g, key: key, established: true, peerAlloc: h.bufAlloc}
		g.conns[key] = c
		c.send(opResponse, 0, nil)
		accept <- c
		return
	}
	if c == nil {
		if h.op != opReset {
			g.send(header{srcPort: h.dstPort, dstPort: h.srcPort, op: opReset}, nil)
		}
		return
	}
	c.peerAlloc, c.peerFwd = h.bufAlloc, h.fwdCnt
	switch h.op {
	case opResponse:
		c.established = true
	case opReset:
		c.reset = true
		c.resets++
		delete(g.conns, key)
	case opShutdown:
		c.peerShut |= h.flags
		if c.peerShut == shutdownBoth && len(c.in) == 0 {
			c.send(opReset, 0, nil)
			c.reset = true
			delete(g.conns, key)
		}
	case opData:
		c.rx += h.length
		if c.rx-c.taken > g.bufAlloc {
			g.fault("%d bytes in a buffer of %d", c.rx-c.taken, g.bufAlloc)
		}
		c.in = append(c.in, payload...)
	case opCreditUpdate:
	case opCreditRequest:
		c.send(opCreditUpdate, 0, nil)
	default:
		g.fault("unknown op %d", h.op)
	}
}

func (g *guest) fault(format string, args ...any) {
	g.t.Errorf("guest: "+format, args...)
}

// listen takes what the host dials to a port.
func (g *guest) listen(port uint32) chan *guestConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	accept := make(chan *guestConn, 4096)
	g.listeners[port] = accept
	return accept
}

// dial connects to a port of the host.
func (g *guest) dial(port uint32) (*guestConn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := &guestConn{g: g, key: connKey{host: port, guest: g.nextPort}}
	g.nextPort++
	g.conns[c.key] = c
	c.send(opRequest, 0, nil)
	for !c.established && !c.reset {
		g.changed.Wait()
	}
	if !c.established {
		return nil, errReset
	}
	return c, nil
}

func (c *guestConn) Read(p []byte) (int, error) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	for len(c.in) == 0 {
		if c.reset || c.peerShut&shutdownSend != 0 {
			return 0, io.EOF
		}
		c.g.changed.Wait()
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	c.taken += uint32(n)
	// Linux: when the window that it told of runs low, or nothing is left.
	if c.g.bufAlloc-(c.taken-c.told) < 64<<10 || len(c.in) == 0 {
		c.send(opCreditUpdate, 0, nil)
	}
	return n, nil
}

func (c *guestConn) Write(p []byte) (int, error) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	total := 0
	for len(p) > 0 {
		if c.reset || c.peerShut&shutdownReceive != 0 {
			return total, io.ErrClosedPipe
		}
		window := min(c.peerAlloc, c.g.bufAlloc)
		inFlight := c.tx - c.peerFwd
		if inFlight >= window {
			c.g.changed.Wait()
			continue
		}
		n := min(len(p), int(window-inFlight), 64<<10)
		c.tx += uint32(n)
		c.send(opData, 0, p[:n])
		p, total = p[n:], total+n
	}
	return total, nil
}

func (c *guestConn) shutdown(flags uint32) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	if c.reset {
		return
	}
	c.ownShut |= flags
	c.send(opShutdown, c.ownShut, nil)
}

func (c *guestConn) CloseWrite() { c.shutdown(shutdownSend) }

// Close closes as Linux does and waits for the RST that confirms it.
func (c *guestConn) Close() {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	if c.reset {
		return
	}
	if c.peerShut == shutdownBoth {
		c.send(opReset, 0, nil)
		c.reset = true
		delete(c.g.conns, c.key)
		return
	}
	c.send(opShutdown, shutdownBoth, nil)
	for !c.reset {
		c.g.changed.Wait()
	}
}
