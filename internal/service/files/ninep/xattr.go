package ninep

import (
	"sync"
	"syscall"

	"bake/internal/service/files/tree"
)

// An xattr is what a fid of Txattrwalk or Txattrcreate stands for: a value
// that is read by Tread, or one that is written by Twrite and set by Tclunk.
type xattr struct {
	size int64 // counted in conn.xattrBytes

	mu    sync.Mutex
	value []byte
	node  *tree.Node // the file's, if it is to be set; the fid keeps it
	name  string
	flags int
	want  int // bytes that are to be written
}

// reserve counts the value against the bound of the connection.
func (c *conn) reserve(size int) error {
	if c.xattrBytes.Add(int64(size)) > maxXattrBytes {
		c.xattrBytes.Add(-int64(size))
		return syscall.ENOMEM
	}
	return nil
}

// xattrwalk reads an attribute, or with an empty name the list of them: fid[4]
// newfid[4] name[s].
func (w *worker) xattrwalk(d *decoder) ([]byte, error) {
	n, newN, name := d.u32(), d.u32(), d.str()
	if !d.end() {
		return nil, errMalformed
	}
	f, node, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	var value []byte
	if name == "" {
		value, err = node.ListXattr()
	} else {
		value, err = node.GetXattr(name)
	}
	if err == nil {
		err = w.reserve(len(value))
	}
	if err != nil {
		return nil, err
	}
	attr := newFid(nil, f.uid)
	attr.xattr = &xattr{size: int64(len(value)), value: value}
	var old *fid
	if newN == n {
		old = f
	}
	if err := w.insert(newN, attr, old); err != nil {
		return nil, err
	}
	e := w.start()
	e.u64(uint64(len(value)))
	return w.done(e), nil
}

// xattrcreate makes the fid of a file one of an attribute that is to be
// written: fid[4] name[s] attr_size[8] flags[4].
func (w *worker) xattrcreate(d *decoder) ([]byte, error) {
	n, name, size, flags := d.u32(), d.str(), d.u64(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	if size > tree.MaxXattrValue {
		return nil, syscall.E2BIG
	}
	f, node, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	if err := w.reserve(int(size)); err != nil {
		return nil, err
	}
	attr := newFid(node.Retain(), f.uid)
	attr.xattr = &xattr{size: int64(size), node: node, name: name, flags: int(flags), want: int(size)}
	if err := w.insert(n, attr, f); err != nil {
		return nil, err
	}
	return w.done(w.start()), nil
}

func (x *xattr) readAt(p []byte, off uint64) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.node != nil {
		return 0, syscall.EBADF
	}
	if off >= uint64(len(x.value)) {
		return 0, nil
	}
	return copy(p, x.value[off:]), nil
}

func (x *xattr) writeAt(p []byte, off uint64) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.node == nil {
		return 0, syscall.EBADF
	}
	if off != uint64(len(x.value)) || len(p) > x.want-len(x.value) {
		return 0, syscall.ENOSPC
	}
	x.value = append(x.value, p...)
	return len(p), nil
}

// commit sets the attribute. The client removes one by replacing it with
// nothing.
func (x *xattr) commit() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.node == nil:
		return nil
	case len(x.value) != x.want:
		return syscall.EINVAL
	case x.want == 0 && x.flags == tree.XattrReplace:
		return x.node.RemoveXattr(x.name)
	}
	return x.node.SetXattr(x.name, x.value, x.flags)
}
