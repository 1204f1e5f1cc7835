//go:build linux

package virtiofs

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// A fileSystem is a tree as go-fuse's protocol server wants it. What it does
// not have is ENOSYS: the guest's kernel then does without.
type fileSystem struct {
	fuse.RawFileSystem
	tree      *tree.Tree
	names     time.Duration // how long a guest may believe what a name is
	attrs     time.Duration // and what the attributes are
	openFlags uint32        // FOPEN_* of regular files

	ctx     atomic.Pointer[context.Context] // of the requests that are handled
	nodes   nodes
	files   files
	locks   atomic.Pointer[tree.Locks]
	waiting atomic.Int32 // requests that wait for locks
}

func newFileSystem(t *tree.Tree, c Cache, descriptors int) (*fileSystem, error) {
	fs := &fileSystem{RawFileSystem: fuse.NewDefaultRawFileSystem(), tree: t}
	switch c {
	case CacheDefault, CacheMmap:
		fs.names, fs.attrs = defaultTimeout, defaultTimeout
	case CacheNone:
		fs.openFlags = fuse.FOPEN_DIRECT_IO
	case CacheLoose:
		fs.names, fs.attrs = looseTimeout, looseTimeout
		fs.openFlags = fuse.FOPEN_KEEP_CACHE
	default:
		return nil, fmt.Errorf("there is no cache mode %q for virtiofs: use %s, %s or %s", c, CacheNone, CacheMmap, CacheLoose)
	}
	fs.nodes.init(t.Root(), descriptors, maxNodes)
	fs.files.init()
	fs.locks.Store(tree.NewLocks(true, maxLocks))
	return fs, nil
}

// reset forgets everything that a guest had.
func (fs *fileSystem) reset() {
	fs.locks.Swap(tree.NewLocks(true, maxLocks)).Close()
	fs.files.reset()
	fs.nodes.reset()
}

func (fs *fileSystem) close() {
	fs.reset()
	fs.nodes.close()
}

// enter says in which context requests are handled now.
func (fs *fileSystem) enter(ctx context.Context) {
	if p := fs.ctx.Load(); p == nil || *p != ctx {
		fs.ctx.Store(&ctx)
	}
}

// String is for go-fuse's messages.
func (fs *fileSystem) String() string { return "virtiofs" }

// status is an error of package tree.
func status(err error) fuse.Status {
	switch e := err.(type) {
	case nil:
		return fuse.OK
	case syscall.Errno:
		return fuse.Status(e)
	}
	return fuse.EIO
}

// setTimeout is d as FUSE has it.
func setTimeout(d time.Duration, sec *uint64, nsec *uint32) {
	*sec, *nsec = uint64(d/time.Second), uint32(d%time.Second)
}

func setAttr(out *fuse.Attr, a *tree.Attr) {
	*out = fuse.Attr{
		Ino:       a.Ino,
		Size:      uint64(a.Size),
		Blocks:    a.Blocks,
		Atime:     uint64(a.Atime.Sec),
		Mtime:     uint64(a.Mtime.Sec),
		Ctime:     uint64(a.Ctime.Sec),
		Atimensec: a.Atime.Nsec,
		Mtimensec: a.Mtime.Nsec,
		Ctimensec: a.Ctime.Nsec,
		Mode:      a.Mode,
		Nlink:     a.Nlink,
		Owner:     fuse.Owner{Uid: a.UID, Gid: a.GID},
		// new_encode_dev of Linux: 20 bits and 12 bits.
		Rdev:    a.Minor&0xff | a.Major<<8 | a.Minor&^0xff<<12,
		Blksize: a.BlockSize,
	}
}

// tell puts an object, which it takes over, into an answer that counts as a
// lookup of name in the directory dir.
func (fs *fileSystem) tell(n *tree.Node, a *tree.Attr, dir uint64, name string, out *fuse.EntryOut) fuse.Status {
	number, st := fs.nodes.add(n, a, dir, name)
	if !st.Ok() {
		return st
	}
	out.NodeId = number
	setTimeout(fs.names, &out.EntryValid, &out.EntryValidNsec)
	setTimeout(fs.attrs, &out.AttrValid, &out.AttrValidNsec)
	setAttr(&out.Attr, a)
	return fuse.OK
}

func (fs *fileSystem) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer dir.Close()
	n, a, err := fs.nodes.lookup(dir, name)
	if err != nil {
		return status(err)
	}
	return fs.tell(n, &a, in.NodeId, name, out)
}

func (fs *fileSystem) Forget(number, lookups uint64) { fs.nodes.forget(number, lookups) }

func (fs *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer n.Close()
	return fs.attributes(n, out)
}

func (fs *fileSystem) attributes(n *tree.Node, out *fuse.AttrOut) fuse.Status {
	a, err := n.Attr()
	if err != nil {
		return status(err)
	}
	setTimeout(fs.attrs, &out.AttrValid, &out.AttrValidNsec)
	setAttr(&out.Attr, &a)
	return fuse.OK
}

func (fs *fileSystem) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer n.Close()
	var h *tree.Handle
	if in.Valid&fuse.FATTR_FH != 0 {
		if f := fs.files.get(in.Fh); f != nil && f.handle.Node().ID() == n.ID() {
			h = f.handle
		}
	}
	s := change(in)
	if s.Size < 0 {
		return fuse.Status(syscall.EFBIG)
	}
	if err := n.SetAttr(s, h); err != nil {
		return status(err)
	}
	if in.Valid&fuse.FATTR_KILL_SUIDGID != 0 {
		if err := killPrivileges(n); err != nil {
			return status(err)
		}
	}
	return fs.attributes(n, out)
}

func change(in *fuse.SetAttrIn) tree.SetAttr {
	s := tree.SetAttr{
		Mode:  in.Mode,
		UID:   in.Uid,
		GID:   in.Gid,
		Size:  int64(in.Size),
		Atime: tree.Timespec{Sec: int64(in.Atime), Nsec: in.Atimensec},
		Mtime: tree.Timespec{Sec: int64(in.Mtime), Nsec: in.Mtimensec},
	}
	for _, bit := range [...]struct {
		fuse uint32
		tree tree.SetMask
	}{
		{fuse.FATTR_MODE, tree.SetMode},
		{fuse.FATTR_UID, tree.SetUID},
		{fuse.FATTR_GID, tree.SetGID},
		{fuse.FATTR_SIZE, tree.SetSize},
		{fuse.FATTR_ATIME, tree.SetAtime},
		{fuse.FATTR_MTIME, tree.SetMtime},
		{fuse.FATTR_ATIME_NOW, tree.SetAtimeNow},
		{fuse.FATTR_MTIME_NOW, tree.SetMtimeNow},
		{fuse.FATTR_CTIME, tree.SetCtime},
	} {
		if in.Valid&bit.fuse != 0 {
			s.Valid |= bit.tree
		}
	}
	return s
}

// killPrivileges takes away the bits of a file that a change by somebody
// without CAP_FSETID takes away (FUSE_HANDLE_KILLPRIV_V2; inode(7)): suid, and
// sgid where it does not stand for mandatory locking. The host's kernel does
// not do it for a server that is root.
func killPrivileges(n *tree.Node) error {
	a, err := n.Attr()
	if err != nil || a.Type() != unix.S_IFREG {
		return err
	}
	mode := a.Mode & 0o7777 &^ unix.S_ISUID
	if mode&unix.S_IXGRP != 0 {
		mode &^= unix.S_ISGID
	}
	if mode == a.Mode&0o7777 {
		return nil
	}
	return n.SetAttr(tree.SetAttr{Valid: tree.SetMode, Mode: mode}, nil)
}

func (fs *fileSystem) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return nil, st
	}
	defer n.Close()
	target, err := n.Readlink()
	return []byte(target), status(err)
}

func (fs *fileSystem) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer n.Close()
	s, err := n.StatFS()
	if err != nil {
		return status(err)
	}
	*out = fuse.StatfsOut{
		Blocks:  s.Blocks,
		Bfree:   s.Free,
		Bavail:  s.Avail,
		Files:   s.Files,
		Ffree:   s.FilesFree,
		Bsize:   s.BlockSize,
		Frsize:  s.BlockSize,
		NameLen: s.NameLen,
	}
	return fuse.OK
}
