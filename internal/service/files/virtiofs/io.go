//go:build linux

package virtiofs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// openFlags translates flags of open(2), of which those that are used here are
// the same on amd64 and arm64.
func openFlags(flags uint32) tree.OpenFlags {
	var f tree.OpenFlags
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		f = tree.OpenRead
	case unix.O_WRONLY:
		f = tree.OpenWrite
	case unix.O_RDWR:
		f = tree.OpenRead | tree.OpenWrite
	}
	for _, bit := range [...]struct {
		linux uint32
		tree  tree.OpenFlags
	}{
		{unix.O_APPEND, tree.OpenAppend},
		{unix.O_TRUNC, tree.OpenTruncate},
		{unix.O_EXCL, tree.OpenExclusive},
		{unix.O_DSYNC, tree.OpenDataSync},
		{unix.O_SYNC, tree.OpenSync},
	} {
		if flags&bit.linux == bit.linux {
			f |= bit.tree
		}
	}
	return f
}

// opened tells the guest of a handle of the object that it knows as number.
func (fs *fileSystem) opened(h *tree.Handle, number uint64, out *fuse.OpenOut) {
	fs.nodes.opened(number, 1)
	out.Fh = fs.files.add(h, number)
	out.OpenFlags = fs.openFlags
}

func (fs *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer n.Close()
	h, err := n.Open(openFlags(in.Flags) &^ tree.OpenExclusive)
	if err != nil {
		return status(err)
	}
	if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 {
		if err := killPrivileges(n); err != nil {
			h.Close()
			return status(err)
		}
	}
	fs.opened(h, in.NodeId, out)
	return fuse.OK
}

func (fs *fileSystem) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	dir, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer dir.Close()
	n, h, a, err := dir.Create(name, openFlags(in.Flags), permissions(dir, in.Mode, in.Umask), owner(dir, &in.InHeader))
	if err != nil {
		return status(err)
	}
	if in.OpenFlags&fuse.OPEN_KILL_SUIDGID != 0 && a.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 && in.Flags&unix.O_EXCL == 0 {
		// It may be an old file that was emptied.
		if err = killPrivileges(n); err == nil {
			a, err = n.Attr()
		}
		if err != nil {
			h.Close()
			n.Close()
			return status(err)
		}
	}
	if st := fs.tell(n, &a, in.NodeId, name, &out.EntryOut); !st.Ok() {
		h.Close()
		return st
	}
	fs.opened(h, out.NodeId, &out.OpenOut)
	return fuse.OK
}

// Release closes; the descriptors of others that have it open are theirs.
func (fs *fileSystem) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if f := fs.files.take(in.Fh); f != nil {
		fs.locks.Load().Release(f.handle)
		fs.nodes.opened(f.number, -1)
		f.close()
	}
}

// Flush is a close(2): that of one descriptor of perhaps many.
func (fs *fileSystem) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	if err := fs.locks.Load().ReleaseOwner(f.handle, in.LockOwner); err != nil {
		return status(err)
	}
	return status(f.handle.Flush())
}

func (fs *fileSystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	const dataOnly = 1 // FUSE_FSYNC_FDATASYNC
	return status(f.handle.Fsync(in.FsyncFlags&dataOnly != 0))
}

func (fs *fileSystem) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return fs.Fsync(cancel, in)
}

// A reading is what READ answers with: go-fuse has it read into the guest's
// pages.
type reading struct {
	handle *tree.Handle
	offset int64
	size   int
}

// Size is how much was asked for. The file may end before.
func (r *reading) Size() int { return r.size }

// Done has nothing to free.
func (r *reading) Done() {}

// Bytes reads into one buffer.
func (r *reading) Bytes(buf []byte) ([]byte, fuse.Status) {
	n, err := r.handle.ReadAt(buf[:min(len(buf), r.size)], r.offset)
	return buf[:n], status(err)
}

// Readv reads into the guest's pages, which hold r.size bytes together.
func (r *reading) Readv(to [][]byte) (int, fuse.Status) {
	n, err := r.handle.ReadVector(to, r.offset)
	return n, status(err)
}

func (fs *fileSystem) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	f := fs.files.get(in.Fh)
	if f == nil {
		return nil, fuse.EBADF
	}
	return &reading{f.handle, int64(in.Offset), int(in.Size)}, fuse.OK
}

// Writev writes out of the guest's pages.
func (fs *fileSystem) Writev(_ <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	f := fs.files.get(in.Fh)
	if f == nil {
		return 0, fuse.EBADF
	}
	if uint64(length(data)) != uint64(in.Size) {
		return 0, fuse.EINVAL
	}
	h := f.handle
	if in.WriteFlags&fuse.WRITE_CACHE != 0 {
		var err error
		if h, err = f.random(); err != nil {
			return 0, status(err)
		}
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := killPrivileges(h.Node()); err != nil {
			return 0, status(err)
		}
	}
	n, err := h.WriteVector(data, int64(in.Offset))
	return uint32(n), status(err)
}

func (fs *fileSystem) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	if int64(in.Offset) < 0 || int64(in.Length) < 0 {
		return fuse.EINVAL
	}
	return status(f.handle.Allocate(in.Mode, int64(in.Offset), int64(in.Length)))
}

func (fs *fileSystem) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	if int64(in.Offset) < 0 {
		return fuse.Status(syscall.ENXIO)
	}
	at, err := f.handle.Seek(int64(in.Offset), int(in.Whence))
	out.Offset = uint64(at)
	return status(err)
}

// maxCopy bounds a copy inside the host, which holds a worker for as long. A
// program that copies more asks again.
const maxCopy = 64 << 20

func (fs *fileSystem) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, to := fs.files.get(in.FhIn), fs.files.get(in.FhOut)
	if from == nil || to == nil {
		return 0, fuse.EBADF
	}
	if in.Flags != 0 || int64(in.OffIn) < 0 || int64(in.OffOut) < 0 {
		return 0, fuse.EINVAL
	}
	n, err := from.handle.CopyRange(int64(in.OffIn), to.handle, int64(in.OffOut), int(min(in.Len, maxCopy)))
	return uint32(n), status(err)
}
