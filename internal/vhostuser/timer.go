//go:build linux

package vhostuser

import (
	"container/heap"
	"time"
)

// A timer is the one deadline of a connection. What it means follows from the
// state of the connection.
type timer struct {
	at    time.Time
	index int // in the heap, from 1; 0 when not set
}

// timers is the heap of the connections that have a deadline.
type timers []*conn

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].timer.at.Before(t[j].timer.at) }

func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timer.index, t[j].timer.index = i+1, j+1
}

func (t *timers) Push(x any) {
	c := x.(*conn)
	*t = append(*t, c)
	c.timer.index = len(*t)
}

func (t *timers) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	c.timer.index = 0
	return c
}

// set gives the connection a deadline, in place of any that it has.
func (t *timers) set(c *conn, at time.Time) {
	c.timer.at = at
	if c.timer.index == 0 {
		heap.Push(t, c)
	} else {
		heap.Fix(t, c.timer.index-1)
	}
}

func (t *timers) clear(c *conn) {
	if c.timer.index != 0 {
		heap.Remove(t, c.timer.index-1)
	}
}

// expired removes and returns a connection whose deadline has passed, or nil.
func (t *timers) expired(now time.Time) *conn {
	if len(*t) == 0 || (*t)[0].timer.at.After(now) {
		return nil
	}
	return heap.Pop(t).(*conn)
}
