package policy

import (
	"container/heap"
	"container/list"
	"net/netip"
	"slices"
	"time"
)

// maxAnswers bounds the grants that are kept: a guest that asks for ever more
// names loses its own oldest ones.
const maxAnswers = 16384

// A grant is one address that was answered for a name of one rule. An expired
// one opens nothing and is kept, while there is room, to explain why.
type grant struct {
	rule  *nameRule
	addr  netip.Addr
	name  string        // the last that was asked for
	until time.Duration // exclusive, as Policy.now tells it
	// private says that a name opens addr only if the grant is fixed.
	private bool
	fixed   bool // does not expire and is never evicted

	index int           // in answers.ends
	age   *list.Element // in answers.ages
}

func (g *grant) valid(now time.Duration) bool { return g.fixed || now < g.until }

// answers are the grants by address, in which each rule has at most one, and,
// but for the fixed ones, by their end and by the age of their last answer.
type answers struct {
	byAddr map[netip.Addr][]*grant
	ends   ends
	ages   list.List // of *grant, the oldest in front
}

// add stores g, or prolongs the one that is there.
func (a *answers) add(g grant, now time.Duration) {
	if old := a.find(&g); old != nil {
		if old.fixed {
			return
		}
		if g.until > old.until {
			old.until, old.name = g.until, g.name
			heap.Fix(&a.ends, old.index)
		}
		a.ages.MoveToBack(old.age)
		return
	}
	if len(a.ends) >= maxAnswers {
		a.evict(now)
	}
	stored := a.insert(g)
	stored.age = a.ages.PushBack(stored)
	heap.Push(&a.ends, stored)
}

// fix stores g for good.
func (a *answers) fix(g grant) {
	if old := a.find(&g); old != nil {
		if old.fixed {
			return
		}
		a.remove(old)
	}
	a.insert(g).fixed = true
}

func (a *answers) find(g *grant) *grant {
	for _, old := range a.byAddr[g.addr] {
		if old.rule == g.rule {
			return old
		}
	}
	return nil
}

func (a *answers) insert(g grant) *grant {
	if a.byAddr == nil {
		a.byAddr = make(map[netip.Addr][]*grant)
	}
	stored := &g
	a.byAddr[g.addr] = append(a.byAddr[g.addr], stored)
	return stored
}

// evict makes room: an expired grant goes first, else the oldest.
func (a *answers) evict(now time.Duration) {
	victim := a.ends[0]
	if victim.valid(now) {
		victim = a.ages.Front().Value.(*grant)
	}
	a.remove(victim)
}

func (a *answers) remove(g *grant) {
	heap.Remove(&a.ends, g.index)
	a.ages.Remove(g.age)
	left := slices.DeleteFunc(a.byAddr[g.addr], func(o *grant) bool { return o == g })
	if len(left) == 0 {
		delete(a.byAddr, g.addr)
		return
	}
	a.byAddr[g.addr] = left
}

// ends is a heap of grants, the first to expire on top.
type ends []*grant

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].until < e[j].until }
func (e ends) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].index, e[j].index = i, j
}

func (e *ends) Push(x any) {
	g := x.(*grant)
	g.index = len(*e)
	*e = append(*e, g)
}

func (e *ends) Pop() any {
	last := len(*e) - 1
	g := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	return g
}
