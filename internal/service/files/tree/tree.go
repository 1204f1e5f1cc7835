package tree

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Tree is one shared directory or file.
type Tree struct {
	o      Options
	device uint64 // st_dev of the root

	self     Owner // of the server's process
	chown    bool  // new objects are given to the Owner asked for
	nodes    atomic.Int64
	handles  atomic.Int64
	root     *Node
	platform platform

	closeOnce sync.Once
}

// Open makes a tree of the directory or file that root is open on (O_PATH is
// enough); root stays the caller's and may be closed. Errors are
// [syscall.Errno]: ENOTDIR and EISDIR if Options.File says otherwise.
func Open(root *os.File, o Options) (*Tree, error) {
	if o.MaxNodes <= 0 {
		o.MaxNodes = DefaultMaxNodes
	}
	if o.MaxHandles <= 0 {
		o.MaxHandles = DefaultMaxHandles
	}
	t := &Tree{o: o, self: Owner{uint32(os.Geteuid()), uint32(os.Getegid())}}
	t.chown = t.self.UID == 0 && o.UID == nil && o.GID == nil && !o.Squash
	if err := t.platform.open(); err != nil {
		return nil, errno(err)
	}
	n, err := t.rootNode(int(root.Fd()))
	if err != nil {
		t.platform.close()
		return nil, errno(err)
	}
	if isDir := n.kind == unix.S_IFDIR; isDir == o.File {
		n.Close()
		t.platform.close()
		if isDir {
			return nil, syscall.EISDIR
		}
		return nil, syscall.ENOTDIR
	}
	t.device = n.id.Dev
	if o.File {
		n = &Node{t: t, kind: unix.S_IFDIR, file: n, desc: newDesc(-1, nil)}
	}
	t.root = n
	return t, nil
}

// Root is the tree's root. It belongs to the tree: who keeps it for itself
// calls Retain.
func (t *Tree) Root() *Node { return t.root }

// ReadOnly says whether the tree refuses changes.
func (t *Tree) ReadOnly() bool { return t.o.ReadOnly }

// Close gives up the root. Nodes and Handles that are still open stay so.
func (t *Tree) Close() error {
	t.closeOnce.Do(func() {
		if t.root.file != nil {
			t.root.file.Close()
		}
		t.root.Close()
		t.platform.close()
	})
	return nil
}

// show puts the owner into a that the guest is to see.
func (t *Tree) show(a *Attr) {
	a.Ino = t.mix(a.ID.Dev, a.ID.Ino)
	a.Gen = generation(a.Btime)
	a.UID = shown(a.UID, t.self.UID, t.o.UID, t.o.Squash)
	a.GID = shown(a.GID, t.self.GID, t.o.GID, t.o.Squash)
}

func shown(id, self uint32, fixed *uint32, squash bool) uint32 {
	switch {
	case fixed != nil:
		return *fixed
	case squash && id == self:
		return 0
	case squash && id == 0:
		return nobody
	}
	return id
}

// A desc is a descriptor that is closed when its last user is done with it, so
// that no call meets a number that was given out again.
type desc struct {
	fd   int // -1: none
	refs atomic.Int64
	open *atomic.Int64 // the count that it is part of
}

func newDesc(fd int, open *atomic.Int64) *desc {
	d := &desc{fd: fd, open: open}
	d.refs.Store(1)
	return d
}

func (d *desc) acquire() bool {
	for {
		n := d.refs.Load()
		if n <= 0 {
			return false
		}
		if d.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives one use up and says whether it was the last.
func (d *desc) release() bool {
	if d.refs.Add(-1) != 0 {
		return false
	}
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	if d.open != nil {
		d.open.Add(-1)
	}
	return true
}

// take counts one more of what has a limit.
func take(count *atomic.Int64, limit int, full syscall.Errno) error {
	if count.Add(1) > int64(limit) {
		count.Add(-1)
		return full
	}
	return nil
}
