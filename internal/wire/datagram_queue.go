package wire

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// A DatagramQueue holds frames that wait to be written to a stream. It is
// bounded in bytes and never makes who puts wait: like any router's queue it
// drops what comes while it is full. Its methods are safe for concurrent use.
type DatagramQueue struct {
	limit   int
	ready   chan struct{} // holds a token if frames may be waiting
	dropped atomic.Uint64

	mu     sync.Mutex
	frames []byte
	spare  []byte // the other buffer, while no write uses it
}

// NewDatagramQueue makes a queue of at most limit bytes of frames; as many
// again can be in the hands of the writer.
func NewDatagramQueue(limit int) *DatagramQueue {
	return &DatagramQueue{limit: limit, ready: make(chan struct{}, 1)}
}

// Put copies d into the queue. It reports false if it dropped d, because the
// queue is full or d has no valid frame.
func (q *DatagramQueue) Put(d *Datagram) bool {
	q.mu.Lock()
	before := len(q.frames)
	if before+d.FrameLen() > q.limit {
		q.mu.Unlock()
		q.dropped.Add(1)
		return false
	}
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
		q.mu.Lock()
		frames := q.frames
		q.frames, q.spare = q.spare[:0], nil
		q.mu.Unlock()
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
