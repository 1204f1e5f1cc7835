package ninep

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// Bits of Rgetattr's valid field: P9_STATS_BASIC, _BTIME, _GEN.
const (
	statsBasic = 0x7ff
	statsBtime = 0x800
	statsGen   = 0x1000
)

// getattr is stat: fid[4] request_mask[8]. All is told whatever is asked.
func (w *worker) getattr(d *decoder) ([]byte, error) {
	n, _ := d.u32(), d.u64()
	if !d.end() {
		return nil, errMalformed
	}
	f, node, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	a, err := node.Attr()
	if err != nil {
		return nil, err
	}
	valid := uint64(statsBasic)
	if a.Gen != 0 {
		valid |= statsBtime | statsGen
	}
	e := w.start()
	e.u64(valid)
	e.attrQid(&a)
	e.u32(a.Mode)
	e.u32(a.UID)
	e.u32(a.GID)
	e.u64(uint64(a.Nlink))
	e.u64(device(a.Major, a.Minor))
	e.u64(uint64(a.Size))
	e.u64(uint64(w.blockSize(&a)))
	e.u64(a.Blocks)
	e.time(a.Atime)
	e.time(a.Mtime)
	e.time(a.Ctime)
	e.time(a.Btime)
	e.u64(uint64(a.Gen))
	e.u64(0) // data_version
	return w.done(e), nil
}

// blockSize is what stdio takes as the size of its buffer: where the client
// caches nothing, each is a request.
func (w *worker) blockSize(a *tree.Attr) uint32 {
	unit := min(w.iounit(), 128<<10)
	if a.Type() != unix.S_IFREG || a.BlockSize == 0 || a.BlockSize > unit {
		return a.BlockSize
	}
	return unit - unit%a.BlockSize
}

// device is new_encode_dev of linux/kdev_t.h, which the client takes apart.
func device(major, minor uint32) uint64 {
	return uint64(minor&0xff | major<<8 | minor&^0xff<<12)
}

// Bits of Tsetattr's valid field (P9_ATTR_*).
const (
	attrMode     = 1 << 0
	attrUID      = 1 << 1
	attrGID      = 1 << 2
	attrSize     = 1 << 3
	attrAtime    = 1 << 4
	attrMtime    = 1 << 5
	attrCtime    = 1 << 6
	attrAtimeSet = 1 << 7
	attrMtimeSet = 1 << 8
)

// setattr changes attributes: fid[4] valid[4] mode[4] uid[4] gid[4] size[8]
// atime_sec[8] atime_nsec[8] mtime_sec[8] mtime_nsec[8].
func (w *worker) setattr(d *decoder) ([]byte, error) {
	n, valid := d.u32(), d.u32()
	s := tree.SetAttr{Mode: d.u32(), UID: d.u32(), GID: d.u32()}
	size := d.u64()
	atime, atimeN, mtime, mtimeN := d.u64(), d.u64(), d.u64(), d.u64()
	if !d.end() {
		return nil, errMalformed
	}
	set := func(bit uint32, m tree.SetMask) {
		if valid&bit != 0 {
			s.Valid |= m
		}
	}
	set(attrMode, tree.SetMode)
	set(attrUID, tree.SetUID)
	set(attrGID, tree.SetGID)
	set(attrSize, tree.SetSize)
	set(attrCtime, tree.SetCtime)
	set(attrAtime, tree.SetAtimeNow)
	set(attrMtime, tree.SetMtimeNow)
	const second = 1e9
	if valid&attrAtimeSet != 0 && valid&attrAtime != 0 {
		s.Valid = s.Valid&^tree.SetAtimeNow | tree.SetAtime
		if atimeN >= second {
			return nil, syscall.EINVAL
		}
		s.Atime = tree.Timespec{Sec: int64(atime), Nsec: uint32(atimeN)}
	}
	if valid&attrMtimeSet != 0 && valid&attrMtime != 0 {
		s.Valid = s.Valid&^tree.SetMtimeNow | tree.SetMtime
		if mtimeN >= second {
			return nil, syscall.EINVAL
		}
		s.Mtime = tree.Timespec{Sec: int64(mtime), Nsec: uint32(mtimeN)}
	}
	if valid&attrSize != 0 {
		if size > math.MaxInt64 {
			return nil, syscall.EFBIG
		}
		s.Size = int64(size)
	}
	f, node, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	if err := node.SetAttr(s, f.handle.Load()); err != nil {
		return nil, err
	}
	return w.done(w.start()), nil
}

// fsMagic is V9FS_MAGIC of linux/magic.h. With the number of the host's file
// system, programs like tail(1) would take it for a local one and wait for
// inotify events of what the host changes.
const fsMagic = 0x01021997

// statfs is statfs(2): fid[4].
func (w *worker) statfs(d *decoder) ([]byte, error) {
	n := d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, node, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	s, err := node.StatFS()
	if err != nil {
		return nil, err
	}
	e := w.start()
	e.u32(fsMagic)
	e.u32(s.BlockSize)
	e.u64(s.Blocks)
	e.u64(s.Free)
	e.u64(s.Avail)
	e.u64(s.Files)
	e.u64(s.FilesFree)
	e.u64(s.FSID)
	e.u32(s.NameLen)
	return w.done(e), nil
}
