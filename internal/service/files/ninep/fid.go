package ninep

import (
	"sync"
	"sync/atomic"
	"syscall"

	"bake/internal/service/files/tree"
)

// A fid is what a number of the guest stands for. It is counted: a request
// that uses it keeps it while another clunks its number.
type fid struct {
	node *tree.Node // nil for an attribute's
	uid  uint32     // of the attach that it comes from
	refs atomic.Int32

	mu     sync.Mutex                  // of opening
	handle atomic.Pointer[tree.Handle] // nil until it is open
	xattr  *xattr
}

func newFid(n *tree.Node, uid uint32) *fid {
	f := &fid{node: n, uid: uid}
	f.refs.Store(1)
	return f
}

// open is the handle, EBADF if there is none.
func (f *fid) open() (*tree.Handle, error) {
	if h := f.handle.Load(); h != nil {
		return h, nil
	}
	return nil, syscall.EBADF
}

// object is the node, EBADF if the fid is an attribute's.
func (f *fid) object() (*tree.Node, error) {
	if f.node == nil {
		return nil, syscall.EBADF
	}
	return f.node, nil
}

// put gives a reference up. The last one closes everything.
func (c *conn) put(f *fid) {
	if f.refs.Add(-1) != 0 {
		return
	}
	if h := f.handle.Load(); h != nil {
		c.locks.Release(h)
		h.Close()
	}
	if f.node != nil {
		f.node.Close()
	}
	if f.xattr != nil {
		c.xattrBytes.Add(-f.xattr.size)
	}
}

// fid finds what a number stands for; the caller puts it.
func (c *conn) fid(n uint32) (*fid, error) {
	c.fidMu.Lock()
	defer c.fidMu.Unlock()
	f := c.fids[n]
	if f == nil {
		return nil, syscall.EBADF
	}
	f.refs.Add(1)
	return f, nil
}

// node is the object that a number stands for, with the fid to put.
func (c *conn) node(n uint32) (*fid, *tree.Node, error) {
	f, err := c.fid(n)
	if err != nil {
		return nil, nil, err
	}
	if f.node == nil {
		c.put(f)
		return nil, nil, syscall.EBADF
	}
	return f, f.node, nil
}

// insert gives f, which it takes over, a number. EEXIST if the number stands
// for something else than old, which is nil for a number that is to be new.
func (c *conn) insert(n uint32, f, old *fid) error {
	err := c.place(n, f, old)
	if err != nil {
		c.put(f)
	} else if old != nil {
		c.put(old)
	}
	return err
}

func (c *conn) place(n uint32, f, old *fid) error {
	c.fidMu.Lock()
	defer c.fidMu.Unlock()
	switch {
	case n == noFid:
		return syscall.EINVAL
	case c.fids[n] != old:
		return syscall.EEXIST
	case old == nil && len(c.fids) >= c.limits.Fids:
		return syscall.ENFILE
	}
	c.fids[n] = f
	return nil
}

// remove takes a number away; the caller puts what it stood for.
func (c *conn) remove(n uint32) (*fid, error) {
	c.fidMu.Lock()
	defer c.fidMu.Unlock()
	f := c.fids[n]
	if f == nil {
		return nil, syscall.EBADF
	}
	delete(c.fids, n)
	return f, nil
}

// removeAll ends a session.
func (c *conn) removeAll() {
	c.fidMu.Lock()
	all := c.fids
	c.fids = make(map[uint32]*fid)
	c.fidMu.Unlock()
	for _, f := range all {
		c.put(f)
	}
}
