//go:build linux

package vhostuser

import (
	"encoding/binary"
	"fmt"
)

// maxQueueSize is the largest virtqueue (virtio 1.2, 2.7).
const maxQueueSize = 32768

// Flags of the used and available rings (virtio 1.2, 2.7.7 and 2.7.10), which
// say something only without the event index feature.
const (
	usedNoNotify     = 1
	availNoInterrupt = 1
)

// A virtqueue is the device's side of a split virtqueue (virtio 1.2, 2.7).
//
// Available ring: flags u16, idx u16, ring [size]u16, used_event u16.
// Used ring: flags u16, idx u16, ring [size]{id, len u32}, avail_event u16.
type virtqueue struct {
	mem               *memory
	size              int
	desc, avail, used []byte
	dir               direction
	eventIdx          bool

	next      uint16 // index of the next available buffer to take
	availIdx  uint16 // the driver's index when last looked at
	usedIdx   uint16 // ours
	usedFlags uint16
	signalled uint16 // usedIdx when the driver was last thought of
	always    bool   // signal whatever the driver's event word says, once

	current chain // the buffer at next, when peeked
	peeked  bool
}

// ringLayout says where the parts of a virtqueue are, in the address space of
// the front end.
type ringLayout struct {
	size              uint32
	desc, avail, used uint64
}

// newVirtqueue finds the rings in the guest's memory. base is the index of the
// first buffer to take.
func newVirtqueue(m *memory, at ringLayout, base uint16, dir direction, eventIdx bool) (*virtqueue, error) {
	if at.size == 0 || at.size > maxQueueSize || at.size&(at.size-1) != 0 {
		return nil, fmt.Errorf("queue size %d is not a power of two up to %d", at.size, maxQueueSize)
	}
	n := uint64(at.size)
	q := &virtqueue{
		mem:      m,
		size:     int(n),
		desc:     m.user(at.desc, n*descSize),
		avail:    m.user(at.avail, 6+2*n),
		used:     m.user(at.used, 6+8*n),
		dir:      dir,
		eventIdx: eventIdx,
		next:     base,
		availIdx: base,
		always:   true,
	}
	if q.desc == nil || q.avail == nil || q.used == nil {
		return nil, fmt.Errorf("rings at %#x, %#x, %#x (size %d) are not in the guest's memory", at.desc, at.avail, at.used, at.size)
	}
	// The standard asks for an available ring aligned to 2; drivers align to 4
	// at least, and the accesses here need it.
	if !aligned(q.avail, 4) || !aligned(q.used, 4) {
		return nil, fmt.Errorf("rings at %#x and %#x are not aligned to 4 bytes", at.avail, at.used)
	}
	// After a pause of the rings (not of the guest) the index goes on.
	q.usedIdx = uint16(load32(q.used, 0) >> 16)
	q.signalled = q.usedIdx
	q.suppress()
	return q, nil
}

// peek returns the next available buffer, or nil when there is none. It stays
// the same until pop. An error means that the driver broke the ring.
func (q *virtqueue) peek() (*chain, error) {
	if q.peeked {
		return &q.current, nil
	}
	ok, err := q.first(&q.current)
	if err != nil || !ok {
		return nil, err
	}
	q.peeked = true
	return &q.current, nil
}

// first makes c the next available buffer; it reports false when there is
// none.
func (q *virtqueue) first(c *chain) (bool, error) {
	if q.next == q.availIdx {
		if more, err := q.reload(); err != nil || !more {
			return false, err
		}
	}
	slot := int(q.next) & (q.size - 1)
	head := load16(q.avail, 4+2*slot)
	return true, c.walk(q.mem, q.desc, head, q.dir)
}

// take is for buffers that are not given back in order: it makes c the next
// available one, which is not available any more. It reports false when there
// is none. The buffer is given back by give.
func (q *virtqueue) take(c *chain) (bool, error) {
	ok, err := q.first(c)
	if ok && err == nil {
		q.next++
	}
	return ok, err
}

// reload looks at the driver's index; it reports whether buffers are there.
func (q *virtqueue) reload() (bool, error) {
	// The load orders what follows: the entries up to this index are written.
	q.availIdx = uint16(load32(q.avail, 0) >> 16)
	if n := q.availIdx - q.next; int(n) > q.size {
		return false, fmt.Errorf("available index %d is %d ahead of %d in a queue of %d", q.availIdx, n, q.next, q.size)
	}
	return q.availIdx != q.next, nil
}

// pop gives the peeked buffer back to the driver with n bytes written to it.
func (q *virtqueue) pop(n int) {
	q.next++
	q.peeked = false
	q.give(q.current.head, n)
}

// give gives the buffer that begins with descriptor head back to the driver
// with n bytes written to it.
func (q *virtqueue) give(head uint16, n int) {
	slot := int(q.usedIdx) & (q.size - 1)
	elem := q.used[4+8*slot : 4+8*slot+8]
	binary.LittleEndian.PutUint32(elem[0:], uint32(head))
	binary.LittleEndian.PutUint32(elem[4:], uint32(n))
	q.usedIdx++
	q.publish()
}

// publish stores flags and idx together; the store orders the elements before.
func (q *virtqueue) publish() {
	store32(q.used, 0, uint32(q.usedFlags)|uint32(q.usedIdx)<<16)
}

// listen asks the driver to notify of new buffers. It reports whether there
// are some already, in which case no notification comes for them.
func (q *virtqueue) listen() (bool, error) {
	if q.eventIdx {
		store16(q.used, 4+8*q.size, q.next)
	} else {
		q.usedFlags = 0
		q.publish()
	}
	// Either the driver sees the wish, or we see its new index.
	fence()
	return q.reload()
}

// suppress tells the driver that it need not notify. With the event index
// nothing need be done: the event word stays behind.
func (q *virtqueue) suppress() {
	if !q.eventIdx {
		q.usedFlags = usedNoNotify
		q.publish()
	}
}

// wantsSignal reports whether the driver wants to be interrupted for what was
// given back since the last time that this was asked.
func (q *virtqueue) wantsSignal() bool {
	old := q.signalled
	if old == q.usedIdx && !q.always {
		return false
	}
	q.signalled = q.usedIdx
	if q.always {
		q.always = false
		return true
	}
	// Either the driver sees the new index, or we see its wish.
	fence()
	if !q.eventIdx {
		return load32(q.avail, 0)&availNoInterrupt == 0
	}
	event := load16(q.avail, 4+2*q.size)
	return q.usedIdx-event-1 < q.usedIdx-old // virtio 1.2, 2.7.7.2
}
