package egress

import (
	"container/list"
	"net/netip"
	"strings"
	"sync"
)

// fakeRange are the addresses that stand for names: the upper half of the
// benchmarking network (RFC 2544), of which the guest's own addresses are in
// the lower one.
var fakeRange = netip.MustParsePrefix("198.18.128.0/17")

// maxFakes is how many names have an address at once: all of fakeRange but its
// first and its last.
const maxFakes = 1<<15 - 2

// FakeNames are the names that a guest has asked for and that only a proxy can
// resolve. Each has an address that stands for it; when there are no more, the
// name that was not used for the longest time loses its own. It is safe for
// concurrent use.
type FakeNames struct {
	mu     sync.Mutex
	byName map[string]*list.Element
	byAddr map[netip.Addr]*list.Element
	used   *list.List // of *fakeName, the latest used in front
	next   netip.Addr
	max    int
}

type fakeName struct {
	name string
	addr netip.Addr
}

// NewFakeNames makes an empty table.
func NewFakeNames() *FakeNames { return newFakeNames(maxFakes) }

func newFakeNames(limit int) *FakeNames {
	return &FakeNames{
		byName: map[string]*list.Element{}, byAddr: map[netip.Addr]*list.Element{}, used: list.New(),
		next: fakeRange.Addr().Next(), max: limit,
	}
}

// Assign returns the IPv4 address that stands for name. Case and a trailing
// dot make no difference.
func (f *FakeNames) Assign(name string) netip.Addr {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.byName[name]; e != nil {
		f.used.MoveToFront(e)
		return e.Value.(*fakeName).addr
	}
	var addr netip.Addr
	if f.used.Len() < f.max {
		addr = f.next
		f.next = addr.Next()
	} else {
		last := f.used.Back()
		old := f.used.Remove(last).(*fakeName)
		delete(f.byName, old.name)
		addr = old.addr
	}
	e := f.used.PushFront(&fakeName{name, addr})
	f.byName[name], f.byAddr[addr] = e, e
	return addr
}

// Name returns the name that an address stands for.
func (f *FakeNames) Name(addr netip.Addr) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.byAddr[addr]
	if e == nil {
		return "", false
	}
	f.used.MoveToFront(e)
	return e.Value.(*fakeName).name, true
}
