//go:build linux

package virtiofs

import (
	"container/list"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// nodes are the objects that the guest knows, by the numbers that it knows them
// by. A number is never used again. An object has one number however many
// names it has, so that the guest keeps its contents once.
//
// A guest's kernel remembers objects for as long as it has memory: all that a
// find(1) has met. So not each of them has a descriptor. When more than limit
// have one, those of files that were not used of late are closed; such a file is
// opened again by the name that it was last looked up by. If it is not there any
// more, the guest gets ESTALE, upon which its kernel looks the name that it has
// up anew. What the guest has open keeps its descriptor.
type nodes struct {
	limit int // descriptors
	max   int // objects

	mu   sync.RWMutex
	last uint64
	byID map[uint64]*node
	same map[tree.ID]*node
	open list.List // of *node: those that have a descriptor that may be closed
}

// A node is one of them. While it has a descriptor, the host does not give the
// object's identity to another one.
type node struct {
	number uint64
	id     tree.ID
	gen    uint32 // tells one use of an identity from the next

	used atomic.Bool // of late

	// Guarded by nodes.mu.
	object  *tree.Node // nil without a descriptor
	element *list.Element
	lookups uint64 // how often the guest was told of it
	opens   int    // how many handles the guest has of it
	parent  uint64 // where it was looked up
	name    string
}

const stale = fuse.Status(syscall.ESTALE)

func (ns *nodes) init(root *tree.Node, limit, max int) {
	ns.limit, ns.max = limit, max
	r := &node{number: fuse.FUSE_ROOT_ID, id: root.ID(), object: root.Retain(), lookups: 1}
	ns.last = fuse.FUSE_ROOT_ID
	ns.byID = map[uint64]*node{r.number: r}
	ns.same = map[tree.ID]*node{r.id: r}
}

// get returns the object that the guest means. The caller closes it.
func (ns *nodes) get(number uint64) (*tree.Node, fuse.Status) {
	ns.mu.RLock()
	n := ns.byID[number]
	if n == nil {
		ns.mu.RUnlock()
		return nil, stale
	}
	if !n.used.Load() {
		n.used.Store(true)
	}
	if n.object != nil {
		defer ns.mu.RUnlock()
		return n.object.Retain(), fuse.OK
	}
	parent, name := n.parent, n.name
	ns.mu.RUnlock()
	return ns.reopen(n, parent, name)
}

// reopen finds an object again that has no descriptor. Its parent has one:
// those of directories are kept.
func (ns *nodes) reopen(n *node, parent uint64, name string) (*tree.Node, fuse.Status) {
	dir, st := ns.get(parent)
	if !st.Ok() {
		return nil, st
	}
	defer dir.Close()
	object, a, err := ns.lookup(dir, name)
	if err == syscall.ENOENT || err == nil && !n.is(&a) {
		err = syscall.ESTALE
	}
	if err != nil {
		if object != nil {
			object.Close()
		}
		return nil, status(err)
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	object.Retain()
	if ns.byID[n.number] != n || n.object != nil {
		object.Close() // forgotten, or opened by another request meanwhile
	} else {
		ns.keep(n, object)
	}
	return object, fuse.OK
}

func (n *node) is(a *tree.Attr) bool { return n.id == a.ID && n.gen == a.Gen }

// lookup is dir.Lookup, for which descriptors are given up if none is left.
func (ns *nodes) lookup(dir *tree.Node, name string) (*tree.Node, tree.Attr, error) {
	object, a, err := dir.Lookup(name)
	if err != syscall.EMFILE && err != syscall.ENFILE {
		return object, a, err
	}
	ns.mu.Lock()
	ns.shrink(max(0, ns.open.Len()-ns.open.Len()/4-1))
	ns.mu.Unlock()
	return dir.Lookup(name)
}

// add takes object over, of which the guest is about to be told as name of a
// directory, and returns its number.
func (ns *nodes) add(object *tree.Node, a *tree.Attr, parent uint64, name string) (uint64, fuse.Status) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if n := ns.same[a.ID]; n != nil && (n.object != nil || n.gen == a.Gen) {
		n.lookups++
		if n.object != nil {
			object.Close()
		} else {
			ns.keep(n, object)
		}
		if n.number != fuse.FUSE_ROOT_ID {
			n.parent, n.name = parent, name
		}
		return n.number, fuse.OK
	}
	if len(ns.byID) >= ns.max {
		object.Close()
		return 0, fuse.Status(syscall.ENFILE)
	}
	ns.last++
	n := &node{number: ns.last, id: a.ID, gen: a.Gen, lookups: 1, parent: parent, name: name}
	ns.byID[n.number] = n
	ns.same[n.id] = n // instead of one that is gone on the host, if there is one
	ns.keep(n, object)
	return n.number, fuse.OK
}

// keep gives n a descriptor, and takes others away beyond the limit. It is
// called with mu held, as shrink and drop are.
func (ns *nodes) keep(n *node, object *tree.Node) {
	n.object = object
	if object.Type() == unix.S_IFDIR {
		return
	}
	ns.shrink(ns.limit - 1)
	n.element = ns.open.PushBack(n)
}

// shrink closes descriptors until no more than limit are left that may be
// closed, or none more can be.
func (ns *nodes) shrink(limit int) {
	// Each is met twice at most: who was used of late gets another chance.
	for range 2 * ns.open.Len() {
		if ns.open.Len() <= limit {
			return
		}
		e := ns.open.Front()
		n := e.Value.(*node)
		if n.opens > 0 || n.used.Swap(false) {
			ns.open.MoveToBack(e)
			continue
		}
		ns.open.Remove(e)
		n.element = nil
		n.object.Close()
		n.object = nil
	}
}

// opened counts a handle of an object; the number is one that the guest just
// used.
func (ns *nodes) opened(number uint64, by int) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if n := ns.byID[number]; n != nil {
		n.opens += by
	}
}

// forget takes back that the guest was told of an object lookups times.
func (ns *nodes) forget(number, lookups uint64) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n := ns.byID[number]
	if n == nil || number == fuse.FUSE_ROOT_ID {
		return
	}
	if n.lookups > lookups {
		n.lookups -= lookups
		return
	}
	ns.drop(n)
}

func (ns *nodes) drop(n *node) {
	delete(ns.byID, n.number)
	if ns.same[n.id] == n {
		delete(ns.same, n.id)
	}
	if n.element != nil {
		ns.open.Remove(n.element)
	}
	if n.object != nil {
		n.object.Close()
	}
}

// reset forgets all but the root.
func (ns *nodes) reset() {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for number, n := range ns.byID {
		if number != fuse.FUSE_ROOT_ID {
			ns.drop(n)
		}
	}
}

// close forgets the root, too.
func (ns *nodes) close() {
	ns.reset()
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for _, n := range ns.byID {
		ns.drop(n)
	}
}
