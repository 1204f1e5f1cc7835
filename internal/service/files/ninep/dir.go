package ninep

import (
	"syscall"

	"bake/internal/service/files/tree"
)

// readdir lists a directory: fid[4] offset[8] count[4]. Entries are qid[13]
// offset[8] type[1] name[s].
func (w *worker) readdir(d *decoder) ([]byte, error) {
	n, off, count := d.u32(), d.u64(), d.u32()
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
	count = min(count, w.msize.Load()-readHeader)
	out := w.room(readHeader + int(count))
	e := encoder{b: out[readHeader:readHeader], version: w.qidVersion()}
	full := false
	err = h.Readdir(off, func(d *tree.Dirent) bool {
		if len(e.b)+direntHead+len(d.Name) > int(count) {
			full = true
			return false
		}
		e.qid(d.Ino, d.Type)
		e.u64(d.Offset)
		e.u8(d.Type)
		e.u16(uint16(len(d.Name)))
		e.b = append(e.b, d.Name...)
		return true
	})
	if len(e.b) == 0 {
		switch {
		case err != nil:
			return nil, err
		case full: // nothing would say that this is the end
			return nil, syscall.EINVAL
		}
	}
	return w.data(out, len(e.b)), nil
}

// readlink is the target of a link: fid[4].
func (w *worker) readlink(d *decoder) ([]byte, error) {
	n := d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, node, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	target, err := node.Readlink()
	if err != nil {
		return nil, err
	}
	e := w.start()
	e.str(target)
	return w.done(e), nil
}

// made answers with the qid of what was made; its node is not kept.
func (w *worker) made(node *tree.Node, a tree.Attr, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	node.Close()
	e := w.start()
	e.attrQid(&a)
	return w.done(e), nil
}

// symlink makes a symbolic link: fid[4] name[s] symtgt[s] gid[4].
func (w *worker) symlink(d *decoder) ([]byte, error) {
	n, name, target, gid := d.u32(), d.str(), d.str(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, dir, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	return w.made(dir.Symlink(name, target, owner(f, gid)))
}

// mknod makes a FIFO, socket or file: dfid[4] name[s] mode[4] major[4]
// minor[4] gid[4].
func (w *worker) mknod(d *decoder) ([]byte, error) {
	n, name, mode, _, _, gid := d.u32(), d.str(), d.u32(), d.u32(), d.u32(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, dir, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	return w.made(dir.Mknod(name, mode, owner(f, gid)))
}

// mkdir makes a directory: dfid[4] name[s] mode[4] gid[4].
func (w *worker) mkdir(d *decoder) ([]byte, error) {
	n, name, mode, gid := d.u32(), d.str(), d.u32(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	f, dir, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	return w.made(dir.Mkdir(name, mode, owner(f, gid)))
}

// link makes another name: dfid[4] fid[4] name[s].
func (w *worker) link(d *decoder) ([]byte, error) {
	dirN, n, name := d.u32(), d.u32(), d.str()
	if !d.end() {
		return nil, errMalformed
	}
	df, dir, err := w.node(dirN)
	if err != nil {
		return nil, err
	}
	defer w.put(df)
	f, node, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	if err := dir.Link(name, node); err != nil {
		return nil, err
	}
	return w.done(w.start()), nil
}

// renameat renames: olddirfid[4] oldname[s] newdirfid[4] newname[s].
func (w *worker) renameat(d *decoder) ([]byte, error) {
	oldN, oldName, newN, newName := d.u32(), d.str(), d.u32(), d.str()
	if !d.end() {
		return nil, errMalformed
	}
	of, oldDir, err := w.node(oldN)
	if err != nil {
		return nil, err
	}
	defer w.put(of)
	nf, newDir, err := w.node(newN)
	if err != nil {
		return nil, err
	}
	defer w.put(nf)
	if err := oldDir.Rename(oldName, newDir, newName, 0); err != nil {
		return nil, err
	}
	return w.done(w.start()), nil
}

// unlinkat removes an entry: dirfd[4] name[s] flags[4].
func (w *worker) unlinkat(d *decoder) ([]byte, error) {
	const removeDir = 0x200 // AT_REMOVEDIR of Linux
	n, name, flags := d.u32(), d.str(), d.u32()
	if !d.end() {
		return nil, errMalformed
	}
	if flags&^removeDir != 0 {
		return nil, syscall.EINVAL
	}
	f, dir, err := w.node(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	if flags != 0 {
		err = dir.Rmdir(name)
	} else {
		err = dir.Unlink(name)
	}
	if err != nil {
		return nil, err
	}
	return w.done(w.start()), nil
}
