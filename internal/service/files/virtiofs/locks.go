//go:build linux

package virtiofs

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// How often a lock that somebody else holds is asked for again. The host can
// wait for one in a call that nothing ends, and so it is not used.
const (
	firstRetry = time.Millisecond
	lastRetry  = 50 * time.Millisecond
)

func lockType(t uint32) (tree.LockType, bool) {
	switch t {
	case unix.F_RDLCK:
		return tree.ReadLock, true
	case unix.F_WRLCK:
		return tree.WriteLock, true
	case unix.F_UNLCK:
		return tree.Unlock, true
	}
	return 0, false
}

func (fs *fileSystem) GetLk(_ <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	kind, ok := lockType(in.Lk.Typ)
	if !ok {
		return fuse.EINVAL
	}
	found, err := fs.locks.Load().Get(f.handle, tree.Lock{Type: kind, Start: in.Lk.Start, End: in.Lk.End, Owner: in.Owner, PID: in.Lk.Pid})
	if err != nil {
		return status(err)
	}
	out.Lk = fuse.FileLock{Start: found.Start, End: found.End, Pid: found.PID}
	switch found.Type {
	case tree.ReadLock:
		out.Lk.Typ = unix.F_RDLCK
	case tree.WriteLock:
		out.Lk.Typ = unix.F_WRLCK
	case tree.Unlock:
		out.Lk.Typ = unix.F_UNLCK
	}
	return fuse.OK
}

func (fs *fileSystem) SetLk(_ <-chan struct{}, in *fuse.LkIn) fuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	kind, ok := lockType(in.Lk.Typ)
	if !ok {
		return fuse.EINVAL
	}
	if in.LkFlags&fuse.LK_FLOCK != 0 {
		return status(f.handle.Flock(kind))
	}
	return status(fs.locks.Load().Set(f.handle, tree.Lock{Type: kind, Start: in.Lk.Start, End: in.Lk.End, Owner: in.Owner, PID: in.Lk.Pid}))
}

// SetLkw waits for a lock. It gives up with EAGAIN when the guest's driver
// leaves the device: not with EINTR, which the guest's kernel makes ERESTARTSYS
// of, whether there is a signal or not.
func (fs *fileSystem) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	const busy = fuse.Status(syscall.EAGAIN)
	ctx := fs.ctx.Load()
	st := fs.SetLk(cancel, in)
	if st != busy {
		return st
	}
	if fs.waiting.Add(1) > maxWaiting {
		fs.waiting.Add(-1)
		return fuse.Status(syscall.ENOLCK)
	}
	defer fs.waiting.Add(-1)
	var done <-chan struct{}
	if ctx != nil {
		done = context.Context(*ctx).Done()
	}
	pause := firstRetry
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for st == busy {
		select {
		case <-done:
			return busy
		case <-timer.C:
		}
		pause = min(2*pause, lastRetry)
		timer.Reset(pause)
		st = fs.SetLk(cancel, in)
	}
	return st
}
