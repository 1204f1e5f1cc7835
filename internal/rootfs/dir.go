package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// dirSource is a directory of the host that a tree was read from. All access
// goes through root, which no symbolic link leads out of.
type dirSource struct {
	path string
	root *os.Root
}

func (d *dirSource) Close() error { return d.root.Close() }

// join returns the host's path of rel for a message.
func (d *dirSource) join(rel string) string { return filepath.Join(d.path, filepath.FromSlash(rel)) }

func (d *dirSource) fault(rel string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = "; make it readable, or pack as its owner"
	}
	return fmt.Errorf("pack %s: %w%s", d.join(rel), err, hint)
}

// fileStat is what the walker needs of a stat, on any system.
type fileStat struct {
	mode         uint32 // Linux type and permission bits
	uid, gid     uint32
	size         int64
	mtime        time.Time
	major, minor uint32
	nlink        uint64
	stamp
}

// AddDir reads the directory at dir into the tree, as one layer: names and
// metadata now, contents when the tree is written. Whiteout names mean nothing
// here. What is taken:
//
//   - Run as root, owners are kept. Otherwise a file owned by the caller becomes
//     0:0, since that is who owns it in the image that the caller unpacked, and
//     other owners are kept.
//   - Symbolic links are taken as links, never followed, and nothing outside
//     the directory is read.
//   - Sockets are left out: they mean nothing without the process behind them.
//   - What is mounted below dir is left out, and the mount point stays as an
//     empty directory (Options.Warn says so): /proc and /sys of a chroot in use
//     are no part of it.
//   - Extended attributes of files and directories are kept where they can be
//     read, if Linux would store them.
func (t *Tree) AddDir(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return (&dirSource{path: dir}).fault(".", err)
	}
	t.layer++
	src := &dirSource{path: dir, root: root}
	t.closers = append(t.closers, src)
	st, err := lstat(root, ".")
	if err != nil {
		return src.fault(".", err)
	}
	w := dirWalker{ctx: ctx, t: t, src: src, euid: os.Geteuid(), device: st.device, links: map[[2]uint64]*Inode{}}
	n, err := w.inode(root, ".", ".", st)
	if err != nil {
		return err
	}
	t.root.setMeta(n)
	return w.walk(root, ".", t.root, 0)
}

type dirWalker struct {
	ctx    context.Context // of this one AddDir
	t      *Tree
	src    *dirSource
	euid   int
	device uint64
	links  map[[2]uint64]*Inode // hard links met, by device and inode
}

// walk reads the directory open as dir, at rel beneath the source, into node.
func (w *dirWalker) walk(dir *os.Root, rel string, node *Inode, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("pack %s: %w", w.src.join(rel), errTooDeep)
	}
	f, err := dir.Open(".")
	if err != nil {
		return w.src.fault(rel, err)
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return w.src.fault(rel, err)
	}
	for _, name := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := w.entry(dir, path.Join(rel, name), name, node, depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *dirWalker) entry(dir *os.Root, rel, name string, node *Inode, depth int) error {
	st, err := lstat(dir, name)
	if err != nil {
		return w.src.fault(rel, err)
	}
	if st.mode&ModeType == ModeSocket {
		return nil
	}
	if err := w.t.count(); err != nil {
		return fmt.Errorf("pack %s: %w", w.src.path, err)
	}
	if err := checkName(name); err != nil {
		return fmt.Errorf("pack %s: %w", w.src.join(rel), err)
	}
	isDir := st.mode&ModeType == ModeDir
	key := [2]uint64{st.device, st.ino}
	if !isDir && st.nlink > 1 {
		if n, ok := w.links[key]; ok {
			node.children[name] = dirent{n, w.t.layer}
			return nil
		}
	}
	n, err := w.inode(dir, rel, name, st)
	if err != nil {
		return err
	}
	if !isDir && st.nlink > 1 {
		w.links[key] = n
	}
	if !isDir {
		node.children[name] = dirent{n, w.t.layer}
		return nil
	}
	n.children, n.opaque = map[string]dirent{}, w.t.layer
	if old := node.Child(name); old != nil && old.IsDir() {
		old.setMeta(n)
		n = old
	}
	node.children[name] = dirent{n, w.t.layer}
	if st.device != w.device {
		w.t.opts.Warn(fmt.Sprintf("%s is a mount point: what is mounted there is left out.", w.src.join(rel)))
		return nil
	}
	sub, err := dir.OpenRoot(name)
	if err != nil {
		return w.src.fault(rel, err)
	}
	defer sub.Close()
	return w.walk(sub, rel, n, depth+1)
}

// inode makes the inode of one file; name is its name in dir.
func (w *dirWalker) inode(dir *os.Root, rel, name string, st fileStat) (*Inode, error) {
	n := &Inode{Mode: st.mode, UID: st.uid, GID: st.gid, Mtime: st.mtime, content: content{host: &hostFile{w.src, rel, st.stamp}}}
	if w.euid != 0 && st.uid == uint32(w.euid) {
		n.UID, n.GID = 0, 0
	}
	switch st.mode & ModeType {
	case ModeRegular:
		n.Size = st.size
	case ModeSymlink:
		target, err := dir.Readlink(name)
		if err != nil {
			return nil, w.src.fault(rel, err)
		}
		n.Mode = ModeSymlink | 0o777
		n.Target, n.Size = target, int64(len(target))
		if len(target) == 0 || len(target) > maxPath {
			return nil, fmt.Errorf("pack %s: its target is %d bytes long (Linux allows 1 to %d)", w.src.join(rel), len(target), maxPath)
		}
	case ModeBlock, ModeChar:
		if err := checkDevice(int64(st.major), int64(st.minor)); err != nil {
			return nil, fmt.Errorf("pack %s: %w", w.src.join(rel), err)
		}
		n.Major, n.Minor = st.major, st.minor
	case ModeDir, ModeFIFO:
	default:
		return nil, fmt.Errorf("pack %s: its type is not one that a root filesystem can have", w.src.join(rel))
	}
	if n.IsRegular() || n.IsDir() {
		xattrs, err := readXattrs(w.src.join(rel))
		if err != nil {
			return nil, w.src.fault(rel, fmt.Errorf("read its extended attributes: %w", err))
		}
		n.Xattrs = xattrs
	}
	return n, nil
}
