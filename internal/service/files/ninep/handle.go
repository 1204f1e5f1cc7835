package ninep

import (
	"errors"
	"syscall"
)

// What handlers return besides error numbers.
var (
	errMalformed = errors.New("malformed")      // the fields are not those of the type
	errLater     = errors.New("answered later") // by a goroutine
)

// handle answers one request with a whole message; nil if the answer is sent
// later or the connection is over.
func (w *worker) handle() []byte {
	d := decode(w.body)
	out, err := w.dispatch(&d)
	switch err {
	case nil:
		return out
	case errLater:
		return nil
	case errMalformed:
		w.fault("sent a message of type %d whose %d bytes are not its fields", w.kind, len(w.body))
		return nil
	}
	return w.fail(err)
}

func (w *worker) dispatch(d *decoder) ([]byte, error) {
	switch w.kind {
	case tWrite:
		return w.write(d)
	case tRead:
		return w.readFile(d)
	case tVersion:
		return w.version(d)
	case tAttach:
		return w.attach(d)
	case tFlush:
		return w.flushTag(d)
	case tWalk:
		return w.walk(d)
	case tClunk:
		return w.clunk(d)
	case tLopen:
		return w.lopen(d)
	case tLcreate:
		return w.lcreate(d)
	case tGetattr:
		return w.getattr(d)
	case tSetattr:
		return w.setattr(d)
	case tStatfs:
		return w.statfs(d)
	case tReaddir:
		return w.readdir(d)
	case tReadlink:
		return w.readlink(d)
	case tSymlink:
		return w.symlink(d)
	case tMknod:
		return w.mknod(d)
	case tMkdir:
		return w.mkdir(d)
	case tLink:
		return w.link(d)
	case tRenameat:
		return w.renameat(d)
	case tUnlinkat:
		return w.unlinkat(d)
	case tFsync:
		return w.fsync(d)
	case tXattrwalk:
		return w.xattrwalk(d)
	case tXattrcreate:
		return w.xattrcreate(d)
	case tLock:
		return w.lock(d)
	case tGetlock:
		return w.getlock(d)
	}
	return nil, syscall.EOPNOTSUPP // tAuth, tRename, tRemove, and what nobody knows
}
