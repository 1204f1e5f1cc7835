//go:build darwin || portabletree

package tree

import "sync"

// place is where an object that is no directory was found. It is guarded by
// platform.mu, as renames change it.
type place struct {
	dir  *Node // a reference; nil for directories and the root
	name string
}

// spot is one name in one directory.
type spot struct {
	dir  ID
	name string
}

// platform is what is known of all nodes, so that they follow the renames that
// are made through the tree, and of what is open, which stays reachable when
// its last name is gone.
type platform struct {
	mu      sync.Mutex
	at      map[spot]map[*Node]struct{}
	handles map[ID]map[*Handle]struct{}
}

func (p *platform) open() error {
	p.at = make(map[spot]map[*Node]struct{})
	p.handles = make(map[ID]map[*Handle]struct{})
	return nil
}

func (*platform) close() {}

func (p *platform) opened(h *Handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add(p.handles, h.node.id, h)
}

func (p *platform) closed(h *Handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	remove(p.handles, h.node.id, h)
}

func add[K, V comparable](m map[K]map[V]struct{}, k K, v V) {
	if m[k] == nil {
		m[k] = make(map[V]struct{})
	}
	m[k][v] = struct{}{}
}

func remove[K, V comparable](m map[K]map[V]struct{}, k K, v V) {
	delete(m[k], v)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}

// settle says where the node is found; dir is retained.
func (n *Node) settle(dir *Node, name string) {
	p := &n.t.platform
	p.mu.Lock()
	defer p.mu.Unlock()
	n.place = place{dir.Retain(), name}
	add(p.at, spot{dir.id, name}, n)
}

// gone is called when the last reference is given up.
func (n *Node) gone() {
	p := &n.t.platform
	p.mu.Lock()
	dir := n.dir
	if dir != nil {
		remove(p.at, spot{dir.id, n.name}, n)
		n.dir = nil
	}
	p.mu.Unlock()
	if dir != nil {
		dir.Close()
	}
}

// renamed lets nodes follow a rename; with exchange in both directions.
func (n *Node) renamed(name string, newDir *Node, newName string, exchange bool) {
	p := &n.t.platform
	from, to := spot{n.id, name}, spot{newDir.id, newName}
	if from == to {
		return
	}
	p.mu.Lock()
	var left []*Node // directories to give up, without the lock
	moved, back := p.at[from], p.at[to]
	delete(p.at, from)
	if exchange {
		delete(p.at, to)
	}
	move := func(nodes map[*Node]struct{}, s spot, dir *Node) {
		for o := range nodes {
			left = append(left, o.dir)
			o.place = place{dir.Retain(), s.name}
			add(p.at, s, o)
		}
	}
	move(moved, to, newDir)
	if exchange {
		move(back, from, n)
	}
	p.mu.Unlock()
	for _, d := range left {
		d.Close()
	}
}

// where is the directory and name of the node, the directory with a reference.
func (n *Node) where() (*Node, string) {
	p := &n.t.platform
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.dir == nil {
		return nil, ""
	}
	return n.dir.Retain(), n.name
}

// anyHandle is a handle of the object that is open for what is asked at least,
// in use for the caller.
func (n *Node) anyHandle(access OpenFlags) *Handle {
	p := &n.t.platform
	p.mu.Lock()
	defer p.mu.Unlock()
	for h := range p.handles[n.id] {
		if h.fd >= 0 && h.flags&access == access && h.acquire() {
			return h
		}
	}
	return nil
}
