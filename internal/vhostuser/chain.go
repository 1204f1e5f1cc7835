//go:build linux

package vhostuser

import (
	"encoding/binary"
	"fmt"
)

// Descriptor flags (virtio 1.2, 2.7.5).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
)

const descSize = 16

// maxSegments bounds a chain: what readv(2) takes at once (IOV_MAX).
const maxSegments = 1024

// A direction is what the buffers of a queue are for.
type direction int

const (
	fromGuest direction = iota // the device reads them: a packet to send
	toGuest                    // the device writes them: room for a packet
	bothWays                   // a request to read, then room for the answer
)

// A chain is one buffer that the driver made available.
type chain struct {
	head     uint16
	segments [][]byte // parts of the guest's memory, none empty
	size     int      // sum of their lengths
	readable int      // how many segments the device reads; the rest it writes
}

// request is the part that the device reads.
func (c *chain) request() [][]byte { return c.segments[:c.readable:c.readable] }

// answer is the part that the device writes.
func (c *chain) answer() [][]byte { return c.segments[c.readable:] }

// copyOut copies the first len(p) bytes of the chain; it reports false when
// there are fewer.
func (c *chain) copyOut(p []byte) bool {
	if c.size < len(p) {
		return false
	}
	for _, s := range c.segments {
		if p = p[copy(p, s):]; len(p) == 0 {
			break
		}
	}
	return true
}

// copyIn is the opposite of copyOut.
func (c *chain) copyIn(p []byte) bool {
	if c.size < len(p) {
		return false
	}
	for _, s := range c.segments {
		if p = p[copy(s, p):]; len(p) == 0 {
			break
		}
	}
	return true
}

// slice returns the n bytes of segments after the first skip bytes, appended
// to to, as parts of the guest's memory; fewer when the chain ends before.
func (c *chain) slice(to [][]byte, skip, n int) [][]byte {
	for _, s := range c.segments {
		if skip >= len(s) {
			skip -= len(s)
			continue
		}
		s = s[skip:]
		skip = 0
		if n <= len(s) {
			return append(to, s[:n])
		}
		to = append(to, s)
		n -= len(s)
	}
	return to
}

type descriptor struct {
	addr   uint64
	length uint32
	flags  uint16
	next   uint16
}

// readDescriptor copies an entry before anything looks at it: the guest can
// change it at any time.
func readDescriptor(table []byte, i int) descriptor {
	var b [descSize]byte
	copy(b[:], table[i*descSize:(i+1)*descSize])
	le := binary.LittleEndian
	return descriptor{le.Uint64(b[0:]), le.Uint32(b[8:]), le.Uint16(b[12:]), le.Uint16(b[14:])}
}

// walk collects the chain that starts at head. Every descriptor must point in
// the direction of the queue; where that is bothWays, what the device reads
// comes first (virtio 1.2, 2.7.4.2). The segments are appended to
// c.segments[:0].
func (c *chain) walk(m *memory, table []byte, head uint16, dir direction) error {
	c.head, c.segments, c.size, c.readable = head, c.segments[:0], 0, 0
	entries := len(table) / descSize
	indirect := false
	i := int(head)
	// A chain that visits more descriptors than its table has, has a loop.
	for visited := 0; ; visited++ {
		if i >= entries {
			return fmt.Errorf("descriptor index %d in a table of %d", i, entries)
		}
		if visited >= entries {
			return fmt.Errorf("descriptor chain at %d has a loop", head)
		}
		d := readDescriptor(table, i)
		if d.flags&descIndirect != 0 {
			if indirect {
				return fmt.Errorf("indirect descriptor inside an indirect table")
			}
			// It may end a chain, not be inside of one (virtio 1.2, 2.7.5.3).
			if d.flags&descNext != 0 {
				return fmt.Errorf("indirect descriptor %d has a next one", i)
			}
			if d.length == 0 || d.length%descSize != 0 || d.length > maxSegments*descSize {
				return fmt.Errorf("indirect table of %d bytes", d.length)
			}
			table = m.guest(d.addr, uint64(d.length))
			if uint32(len(table)) != d.length {
				return fmt.Errorf("indirect table at %#x is outside of the guest's memory", d.addr)
			}
			entries, indirect, i, visited = len(table)/descSize, true, 0, -1
			continue
		}
		write, before := d.flags&descWrite != 0, len(c.segments)
		if write && dir == fromGuest || !write && (dir == toGuest || before > c.readable) {
			return fmt.Errorf("descriptor %d points in the wrong direction (writable: %v)", i, write)
		}
		if err := c.add(m, d.addr, d.length); err != nil {
			return fmt.Errorf("descriptor %d: %w", i, err)
		}
		if !write {
			c.readable = len(c.segments)
		}
		if d.flags&descNext == 0 {
			return nil
		}
		i = int(d.next)
	}
}

// add appends a buffer, which may lie in several adjacent regions.
func (c *chain) add(m *memory, addr uint64, length uint32) error {
	if addr+uint64(length) < addr {
		return fmt.Errorf("buffer of %d bytes at %#x wraps", length, addr)
	}
	for length > 0 {
		s := m.guest(addr, uint64(length))
		if s == nil {
			return fmt.Errorf("address %#x is outside of the guest's memory", addr)
		}
		if len(c.segments) == maxSegments {
			return fmt.Errorf("more than %d segments", maxSegments)
		}
		c.segments = append(c.segments, s)
		c.size += len(s)
		addr += uint64(len(s))
		length -= uint32(len(s))
	}
	return nil
}
