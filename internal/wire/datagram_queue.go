package wire

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A DatagramQueue holds frames that wait to be written to a stream. It is
// bounded in bytes: like any router's queue it drops what comes while it is
// full. Its methods are safe for concurrent use.
type DatagramQueue struct {
	limit   int
	ready   chan struct{} // holds a token if frames may be waiting
	dropped atomic.Uint64

	mu      sync.Mutex
	frames  []byte
	spare   []byte        // the other buffer, while no write uses it
	room    chan struct{} // closed when there is room; nil if nobody waits for it
	stalled bool          // somebody waited in vain, and nothing was taken since
}

// NewDatagramQueue makes a queue of at most limit bytes of frames; as many
// again can be in the hands of the writer.
func NewDatagramQueue(limit int) *DatagramQueue {
	return &DatagramQueue{limit: limit, ready: make(chan struct{}, 1)}
}

// Put copies d into the queue. It reports false if it dropped d, because the
// queue is full or d has no valid frame.
func (q *DatagramQueue) Put(d *Datagram) bool { return q.put(d, 0) }

// PutWithin is Put but waits for room for a while. Once that was in vain,
// nobody waits until the writer goes on.
func (q *DatagramQueue) PutWithin(d *Datagram, wait time.Duration) bool { return q.put(d, wait) }

func (q *DatagramQueue) put(d *Datagram, wait time.Duration) bool {
	q.mu.Lock()
	for len(q.frames)+d.FrameLen() > q.limit {
		if wait == 0 || q.stalled || !q.waitForRoom(wait) {
			q.mu.Unlock()
			q.dropped.Add(1)
			return false
		}
	}
	before := len(q.frames)
	frames, err := AppendDatagram(q.frames, d)
	q.frames = frames
	q.mu.Unlock()
	if err != nil {
		q.dropped.Add(1)
		return false
	}
	if before == 0 {
		select {
		case q.ready <- struct{}{}:
		default:
		}
	}
	return true
}

// waitForRoom waits until the writer has taken what is there. It lets go of
// the lock meanwhile.
func (q *DatagramQueue) waitForRoom(wait time.Duration) bool {
	if q.room == nil {
		q.room = make(chan struct{})
	}
	room := q.room
	q.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-room:
		q.mu.Lock()
		return true
	case <-timer.C:
	}
	q.mu.Lock()
	q.stalled = q.room == room // else it has just been taken
	return !q.stalled
}

// take hands the writer all that waits.
func (q *DatagramQueue) take() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	frames := q.frames
	q.frames, q.spare = q.spare[:0], nil
	q.stalled = false
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
	return frames
}

// Len is the number of bytes that wait.
func (q *DatagramQueue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.frames)
}

// Dropped counts the datagrams that Put dropped.
func (q *DatagramQueue) Dropped() uint64 { return q.dropped.Load() }

// Write writes what is put to w, everything that waits with one call, until
// ctx ends, when it returns nil, or w fails, when what that write held is
// lost. One Write runs at a time; the next continues with what waits.
func (q *DatagramQueue) Write(ctx context.Context, w io.Writer) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.ready:
		}
		frames := q.take()
		if len(frames) == 0 {
			q.give(frames)
			continue
		}
		_, err := w.Write(frames)
		q.give(frames)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("write datagram frames: %w", err)
		}
	}
}

func (q *DatagramQueue) give(frames []byte) {
	q.mu.Lock()
	q.spare = frames
	q.mu.Unlock()
}
