package ninep

import (
	"math"
	"syscall"

	"bake/internal/service/files/tree"
)

// Flags of Tlopen and Tlcreate (P9_DOTL_*), the same on all architectures.
const (
	oAccess    = 3
	oWronly    = 1
	oRdwr      = 2
	oExcl      = 0o200
	oTrunc     = 0o1000
	oAppend    = 0o2000
	oDsync     = 0o10000
	oDirectory = 0o200000
	oSync      = 0o4000000
)

// openFlags leaves O_APPEND out where the client may cache: it then writes whole
// pages of a mapping, and says where, with a file that was opened for appending
// too. At the end of the file they would be there twice.
func (c *conn) openFlags(v uint32) tree.OpenFlags {
	f := tree.OpenRead
	switch v & oAccess {
	case oWronly:
		f = tree.OpenWrite
	case oRdwr, oAccess: // 3 asks for both permissions, open(2)
		f = tree.OpenRead | tree.OpenWrite
	}
	for _, m := range [...]struct {
		bit uint32
		f   tree.OpenFlags
	}{
		{oExcl, tree.OpenExclusive}, {oTrunc, tree.OpenTruncate},
		{oDsync, tree.OpenDataSync}, {oSync, tree.OpenSync}, {oDirectory, tree.OpenDirectory},
	} {
		if v&m.bit != 0 {
			f |= m.f
		}
	}
	if c.limits.Uncached && v&oAppend != 0 {
		f |= tree.OpenAppend
	}
	return f
}

// iounit is the most that one Tread or Twrite carries.
func (w *worker) iounit() uint32 { return w.msize.Load() - ioHeader }

// lopen opens the object of a fid: fid[4] flags[4].
func (w *worker) lopen(d *decoder) ([]byte, error) {
	n, flags := d.u32(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, node, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handle.Load() != nil {
		return nil, syscall.EBUSY
	}
	h, err := node.Open(w.openFlags(flags) &^ tree.OpenExclusive)
	if err != nil {
		return nil, err
	}
	f.handle.Store(h)
	a, err := node.Attr()
	if err != nil {
		return nil, err
	}
	e := w.start()
	e.attrQid(&a)
	e.u32(w.iounit())
	return w.done(e), nil
}

// lcreate makes a file in the directory of a fid, which then stands for the
// file: fid[4] name[s] flags[4] mode[4] gid[4].
func (w *worker) lcreate(d *decoder) ([]byte, error) {
	n, name, flags, mode, gid := d.u32(), d.str(), d.u32(), d.u32(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, dir, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	if f.handle.Load() != nil {
		return nil, syscall.EBUSY
	}
	node, h, a, err := dir.Create(name, w.openFlags(flags), mode, owner(f, gid))
	if err != nil {
		return nil, err
	}
	file := newFid(node, f.uid)
	file.handle.Store(h)
	if err := w.insert(n, file, f); err != nil {
		return nil, err
	}
	e := w.start()
	e.attrQid(&a)
	e.u32(w.iounit())
	return w.done(e), nil
}

// readFile reads a file or the value of an attribute: fid[4] offset[8] count[4].
func (w *worker) readFile(d *decoder) ([]byte, error) {
	n, off, count := d.u32(), d.u64(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, err := w.fid(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	count = min(count, w.msize.Load()-readHeader)
	out := w.room(readHeader + int(count))
	var got int
	if f.xattr != nil {
		got, err = f.xattr.readAt(out[readHeader:], off)
	} else if off > math.MaxInt64 {
		err = syscall.EINVAL
	} else {
		var h *tree.Handle
		if h, err = f.open(); err == nil {
			got, err = h.ReadAt(out[readHeader:], int64(off))
		}
	}
	if err != nil {
		return nil, err
	}
	return w.data(out, got), nil
}

// data ends a reply of count[4] and so many bytes.
func (w *worker) data(out []byte, count int) []byte {
	out = out[:readHeader+count]
	(&encoder{b: out[:headerSize]}).u32(uint32(count))
	header(out, w.kind+1, w.tag)
	return out
}

// write writes to a file or the value of an attribute: fid[4] offset[8]
// count[4] data[count].
func (w *worker) write(d *decoder) ([]byte, error) {
	n, off, count := d.u32(), d.u64(), d.u32()
	data := d.b
	if !d.ok || uint64(count) != uint64(len(data)) {
		return nil, errMalformed
	}
	f, err := w.fid(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	var put int
	if f.xattr != nil {
		put, err = f.xattr.writeAt(data, off)
	} else if off > math.MaxInt64 {
		err = syscall.EFBIG
	} else {
		var h *tree.Handle
		if h, err = f.open(); err == nil {
			put, err = h.WriteAt(data, int64(off))
		}
	}
	if err != nil {
		return nil, err
	}
	e := w.start()
	e.u32(uint32(put))
	return w.done(e), nil
}

// fsync brings a file or directory to the disk: fid[4] datasync[4].
func (w *worker) fsync(d *decoder) ([]byte, error) {
	n, dataOnly := d.u32(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, err := w.fid(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	h, err := f.open()
	if err != nil {
		return nil, err
	}
	if err := h.Fsync(dataOnly != 0); err != nil {
		return nil, err
	}
	return w.done(w.start()), nil
}
