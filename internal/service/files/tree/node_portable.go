//go:build darwin || portabletree

package tree

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Without O_PATH a directory is a descriptor that is open for reading, and any
// other object is an entry of a directory, whose identity is compared with
// what was found first whenever it is used by name.

// rootNode duplicates the descriptor; a single file stays open by it.
func (t *Tree) rootNode(fd int) (*Node, error) {
	a, err := statFD(fd)
	if err != nil {
		return nil, err
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := take(&t.nodes, t.o.MaxNodes, syscall.ENFILE); err != nil {
		unix.Close(own)
		return nil, err
	}
	return &Node{t: t, desc: newDesc(own, &t.nodes), id: a.ID, kind: a.Type()}, nil
}

func (n *Node) lookup(name string) (*Node, Attr, error) {
	a, err := statAt(n.fd, name)
	if err != nil {
		return nil, Attr{}, errno(err)
	}
	if err := take(&n.t.nodes, n.t.o.MaxNodes, syscall.ENFILE); err != nil {
		return nil, Attr{}, err
	}
	node := &Node{t: n.t, desc: newDesc(-1, &n.t.nodes), id: a.ID, kind: a.Type()}
	if node.kind != unix.S_IFDIR {
		node.settle(n, name)
	} else if node.fd, err = openDir(n.fd, name); err == nil {
		// Another directory may have taken the name since.
		if a, err = statFD(node.fd); err == nil {
			node.id = a.ID
		}
	}
	if err != nil {
		node.Close()
		return nil, Attr{}, errno(err)
	}
	n.t.show(&a)
	return node, a, nil
}

// openAt opens or creates the single name in dir.
func openAt(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (n *Node) adopt(name string, fd int) (*Node, error) {
	a, err := statFD(fd)
	if err != nil {
		return nil, err
	}
	if err := take(&n.t.nodes, n.t.o.MaxNodes, syscall.ENFILE); err != nil {
		return nil, err
	}
	node := &Node{t: n.t, desc: newDesc(-1, &n.t.nodes), id: a.ID, kind: a.Type()}
	node.settle(n, name)
	return node, nil
}

// byName calls f with the directory and name of an object that is no
// directory, if the name is still the object's; ESTALE if it is not.
func (n *Node) byName(f func(dir int, name string) error) error {
	dir, name := n.where()
	if dir == nil {
		return syscall.EINVAL
	}
	defer dir.Close()
	a, err := statAt(dir.fd, name)
	if err != nil || a.ID != n.id {
		return syscall.ESTALE
	}
	return f(dir.fd, name)
}

// change does something to the object: to a descriptor if there is one, by
// name if there is a name, and to any handle that is open otherwise.
func (n *Node) change(byFD func(fd int) error, byName func(dir int, name string) error) error {
	if n.fd >= 0 {
		return byFD(n.fd)
	}
	err := n.byName(byName)
	if err == syscall.ESTALE {
		if h := n.anyHandle(0); h != nil {
			defer h.release()
			return byFD(h.fd)
		}
	}
	return err
}

// reopen opens the object, which is a regular file or a directory.
func (n *Node) reopen(flags int) (int, error) {
	if n.fd >= 0 && n.kind != unix.S_IFDIR {
		return reopenFile(n.fd, flags)
	}
	at, name := n.fd, "."
	if n.kind != unix.S_IFDIR {
		dir, own := n.where()
		if dir == nil {
			return -1, syscall.EBADF
		}
		defer dir.Close()
		at, name = dir.fd, own
	}
	// A truncation waits until it is known what was opened.
	fd, err := openAt(at, name, flags&^unix.O_TRUNC, 0)
	if err == unix.ENOENT {
		return n.duplicate(flags)
	}
	if err != nil {
		return -1, err
	}
	a, err := statFD(fd)
	if err == nil && a.ID != n.id {
		unix.Close(fd)
		return n.duplicate(flags)
	}
	if err == nil && flags&unix.O_TRUNC != 0 {
		err = unix.Ftruncate(fd, 0)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// duplicate is the way to open a file that has no name any more: by a handle
// that may do as much.
func (n *Node) duplicate(flags int) (int, error) {
	var access OpenFlags
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		access = OpenRead
	case unix.O_WRONLY:
		access = OpenWrite
	default:
		access = OpenRead | OpenWrite
	}
	if flags&unix.O_APPEND != 0 {
		access |= OpenAppend
	}
	h := n.anyHandle(access)
	if h == nil {
		return -1, syscall.ESTALE
	}
	defer h.release()
	if flags&unix.O_TRUNC != 0 {
		if err := unix.Ftruncate(h.fd, 0); err != nil {
			return -1, err
		}
	}
	return unix.FcntlInt(uintptr(h.fd), unix.F_DUPFD_CLOEXEC, 0)
}

// withFD calls f with a descriptor of the object that is open with flags.
func (n *Node) withFD(flags int, f func(fd int) error) error {
	if n.kind == unix.S_IFDIR && n.fd >= 0 {
		return f(n.fd)
	}
	if n.kind != unix.S_IFREG {
		return syscall.EOPNOTSUPP
	}
	fd, err := n.reopen(flags)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

func (n *Node) stat() (a Attr, err error) {
	byFD := func(fd int) error {
		a, err = statFD(fd)
		return err
	}
	err = n.change(byFD, func(dir int, name string) error {
		a, err = statAt(dir, name)
		return err
	})
	return a, err
}

func (n *Node) setOwner(uid, gid uint32) error {
	u, g := int(int32(uid)), int(int32(gid))
	return n.change(func(fd int) error { return unix.Fchown(fd, u, g) },
		func(dir int, name string) error { return unix.Fchownat(dir, name, u, g, unix.AT_SYMLINK_NOFOLLOW) })
}

func (n *Node) setMode(mode uint32) error {
	return n.change(func(fd int) error { return unix.Fchmod(fd, mode) },
		func(dir int, name string) error { return chmodAt(dir, name, mode) })
}

func (n *Node) truncate(size int64) error {
	return n.withFD(unix.O_WRONLY, func(fd int) error { return unix.Ftruncate(fd, size) })
}

func (n *Node) setTimes(s *SetAttr) error {
	ts := s.times()
	if n.kind == unix.S_IFDIR {
		return unix.UtimesNanoAt(n.fd, ".", ts[:], unix.AT_SYMLINK_NOFOLLOW)
	}
	return n.change(func(fd int) error { return setTimesFD(fd, ts) },
		func(dir int, name string) error {
			return unix.UtimesNanoAt(dir, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
		})
}

func (n *Node) readlink(buf []byte) (k int, err error) {
	err = n.byName(func(dir int, name string) error {
		k, err = unix.Readlinkat(dir, name, buf)
		return err
	})
	return k, err
}

func (n *Node) linkTo(dir int, name string) error {
	return n.byName(func(from int, old string) error { return unix.Linkat(from, old, dir, name, 0) })
}

func (n *Node) getXattr(name string, buf []byte) (k int, err error) {
	err = n.withFD(unix.O_RDONLY, func(fd int) error {
		k, err = unix.Fgetxattr(fd, name, buf)
		return err
	})
	if err == syscall.EOPNOTSUPP {
		err = noAttr
	}
	return k, err
}

func (n *Node) listXattr(buf []byte) (k int, err error) {
	err = n.withFD(unix.O_RDONLY, func(fd int) error {
		k, err = unix.Flistxattr(fd, buf)
		return err
	})
	return k, err
}

func (n *Node) setXattr(name string, value []byte, flags int) error {
	return n.withFD(unix.O_RDONLY, func(fd int) error { return unix.Fsetxattr(fd, name, value, xattrFlags(flags)) })
}

func (n *Node) removeXattr(name string) error {
	return n.withFD(unix.O_RDONLY, func(fd int) error { return unix.Fremovexattr(fd, name) })
}

func (n *Node) statfs() (s StatFS, err error) {
	if n.fd >= 0 {
		return statfsFD(n.fd)
	}
	dir, _ := n.where()
	if dir == nil {
		return s, syscall.EBADF
	}
	defer dir.Close()
	return statfsFD(dir.fd)
}
