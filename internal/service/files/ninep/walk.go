package ninep

import (
	"syscall"

	"bake/internal/service/files/tree"
)

// version begins a session: msize[4] version[s].
func (w *worker) version(d *decoder) ([]byte, error) {
	msize, name := d.u32(), d.str()
	if !d.end() {
		return nil, errMalformed
	}
	w.removeAll()
	e := w.start()
	if name != version || msize < minMessage {
		e.u32(min(msize, uint32(w.limits.MessageSize)))
		e.str("unknown")
		return w.done(e), nil
	}
	msize = min(msize, uint32(w.limits.MessageSize))
	w.msize.Store(msize)
	e.u32(msize)
	e.str(version)
	return w.done(e), nil
}

// attach gives a number to the root: fid[4] afid[4] uname[s] aname[s] n_uname[4].
func (w *worker) attach(d *decoder) ([]byte, error) {
	n, afid, _, aname, uid := d.u32(), d.u32(), d.str(), d.str(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	switch {
	case afid != noFid:
		return nil, syscall.EINVAL
	case aname != "" && aname != "/":
		return nil, syscall.ENOENT
	}
	if uid == noUser {
		uid = 0
	}
	root := w.tree.Root()
	a, err := root.Attr()
	if err != nil {
		return nil, err
	}
	if err := w.insert(n, newFid(root.Retain(), uid), nil); err != nil {
		return nil, err
	}
	e := w.start()
	e.attrQid(&a)
	return w.done(e), nil
}

// flushTag gives up a request: oldtag[2].
func (w *worker) flushTag(d *decoder) ([]byte, error) {
	old := d.u16()
	if !d.end() {
		return nil, errMalformed
	}
	if w.flush(w.tag, old) {
		return nil, errLater
	}
	return w.done(w.start()), nil
}

// walk goes from a fid to a new one: fid[4] newfid[4] nwname[2] nwname*(wname[s]).
// Without names it makes a second fid of the same object, which is not open.
func (w *worker) walk(d *decoder) ([]byte, error) {
	n, newN, count := d.u32(), d.u32(), int(d.u16())
	if count > maxWalk {
		return nil, errMalformed
	}
	var names [maxWalk]string
	for i := range count {
		names[i] = d.str()
	}
	if !d.end() {
		return nil, errMalformed
	}
	f, node, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	e := w.start()
	e.u16(uint16(count))
	at := node.Retain()
	for i, name := range names[:count] {
		next, a, err := at.Lookup(name)
		at.Close()
		if err != nil {
			if i == 0 {
				return nil, err
			}
			// As far as it went, and no new fid.
			e.b[headerSize], e.b[headerSize+1] = byte(i), 0
			return w.done(e), nil
		}
		e.attrQid(&a)
		at = next
	}
	var old *fid
	if newN == n {
		old = f
	}
	if err := w.insert(newN, newFid(at, f.uid), old); err != nil {
		return nil, err
	}
	return w.done(e), nil
}

// clunk gives a number back: fid[4]. It is also what sets an attribute.
func (w *worker) clunk(d *decoder) ([]byte, error) {
	n := d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, err := w.remove(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	if f.xattr != nil {
		if err := f.xattr.commit(); err != nil {
			return nil, err
		}
	}
	return w.done(w.start()), nil
}

// owner is who gets what is made through f.
func owner(f *fid, gid uint32) tree.Owner {
	if gid == noUser {
		gid = 0
	}
	return tree.Owner{UID: f.uid, GID: gid}
}
