package udp

import (
	"container/list"
	"time"
)

// An lru has its elements in the order of their last use.
type lru[T any] struct{ list list.List }

// A used element remembers when it was used last.
type used[T any] struct {
	value T
	last  time.Time
}

func (l *lru[T]) add(v T, now time.Time) *list.Element {
	return l.list.PushBack(&used[T]{v, now})
}

func (l *lru[T]) touch(e *list.Element, now time.Time) {
	e.Value.(*used[T]).last = now
	l.list.MoveToBack(e)
}

func (l *lru[T]) remove(e *list.Element) { l.list.Remove(e) }

func (l *lru[T]) len() int { return l.list.Len() }

// oldest is the element that was not used for the longest time.
func (l *lru[T]) oldest() (v T, last time.Time, ok bool) {
	e := l.list.Front()
	if e == nil {
		return v, last, false
	}
	u := e.Value.(*used[T])
	return u.value, u.last, true
}
