//go:build linux

package virtiofs

import (
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"bake/internal/service/files/tree"
)

// nodes are the objects that the guest knows, by the numbers that it knows them
// by. A number is never used again. An object has one number however many
// names it has, so that the guest keeps its contents once.
type nodes struct {
	mu   sync.RWMutex
	last uint64
	byID map[uint64]*node
	same map[tree.ID]*node
}

// A node is one of them. Its descriptor keeps the host from giving the object's
// identity to another one.
type node struct {
	*tree.Node
	number  uint64
	lookups uint64 // how often the guest was told of it
}

func (ns *nodes) init(root *tree.Node) {
	r := &node{Node: root.Retain(), number: fuse.FUSE_ROOT_ID, lookups: 1}
	ns.last = fuse.FUSE_ROOT_ID
	ns.byID = map[uint64]*node{r.number: r}
	ns.same = map[tree.ID]*node{r.ID(): r}
}

// get returns the object that the guest means.
func (ns *nodes) get(number uint64) (*tree.Node, fuse.Status) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	if n := ns.byID[number]; n != nil {
		return n.Node, fuse.OK
	}
	return nil, fuse.Status(syscall.ESTALE)
}

// add takes n over, of which the guest is about to be told, and returns its
// number.
func (ns *nodes) add(n *tree.Node) uint64 {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if known := ns.same[n.ID()]; known != nil {
		known.lookups++
		n.Close()
		return known.number
	}
	ns.last++
	added := &node{Node: n, number: ns.last, lookups: 1}
	ns.byID[added.number] = added
	ns.same[n.ID()] = added
	return added.number
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

// drop is called with mu held.
func (ns *nodes) drop(n *node) {
	delete(ns.byID, n.number)
	delete(ns.same, n.ID())
	n.Close()
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
