package tree

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// A Node is an object of the tree. It is counted: Lookup, Create and the like
// return one reference, Retain adds one, Close gives one up. Looking the same
// object up twice makes two Nodes; servers that number objects tell by Attr.ID.
type Node struct {
	*desc
	t    *Tree
	id   ID
	kind uint32 // S_IFMT of an object never changes

	file  *Node // of the made-up root: its only entry
	place       // where it was found, on systems that need to know
}

// ID is the object's identity on the host.
func (n *Node) ID() ID { return n.id }

// Type is the S_IFMT part of the object's mode, which never changes.
func (n *Node) Type() uint32 { return n.kind }

// Retain adds a reference to a node that the caller has one to.
func (n *Node) Retain() *Node {
	n.refs.Add(1)
	return n
}

// Close gives a reference up. Its error is always nil.
func (n *Node) Close() error {
	if n.release() {
		n.gone()
	}
	return nil
}

// enter begins a use of the node and checks a change against ReadOnly.
func (n *Node) enter(change bool) error {
	if change && n.t.o.ReadOnly {
		return syscall.EROFS
	}
	if !n.acquire() {
		return syscall.EBADF
	}
	return nil
}

// enterDir begins a use of a directory of which an entry is named.
func (n *Node) enterDir(name string, change bool) error {
	if n.kind != unix.S_IFDIR {
		return syscall.ENOTDIR
	}
	if err := checkName(name); err != nil {
		return err
	}
	if change && n.file != nil && !n.t.o.ReadOnly {
		return syscall.EPERM // the entry of a single-file tree is its only one
	}
	return n.enter(change)
}

// Lookup finds an entry of a directory. ENOENT, ENOTDIR; never follows a link.
func (n *Node) Lookup(name string) (*Node, Attr, error) {
	if err := n.enterDir(name, false); err != nil {
		return nil, Attr{}, err
	}
	defer n.Close()
	if n.file != nil {
		if name != FileName {
			return nil, Attr{}, syscall.ENOENT
		}
		a, err := n.file.Attr()
		if err != nil {
			return nil, Attr{}, err
		}
		return n.file.Retain(), a, nil
	}
	return n.lookup(name)
}

// Attr is what stat(2) says.
func (n *Node) Attr() (Attr, error) {
	if err := n.enter(false); err != nil {
		return Attr{}, err
	}
	defer n.Close()
	var a Attr
	var err error
	if n.file != nil {
		if a, err = n.file.Attr(); err != nil {
			return Attr{}, err
		}
		a.Mode = unix.S_IFDIR | 0o755
		a.Ino ^= 1 << 62 // no other object of the tree to meet
		a.Nlink, a.Size, a.Blocks = 2, 0, 0
		return a, nil
	}
	if a, err = n.stat(); err != nil {
		return Attr{}, errno(err)
	}
	n.t.show(&a)
	return a, nil
}

// Open opens a regular file or a directory; ENXIO for FIFOs, sockets and
// devices, ELOOP for links, EISDIR for a directory to be written.
func (n *Node) Open(flags OpenFlags) (*Handle, error) {
	change := flags&(OpenWrite|OpenTruncate|OpenAppend) != 0
	switch n.kind {
	case unix.S_IFREG:
		if flags&OpenDirectory != 0 {
			return nil, syscall.ENOTDIR
		}
	case unix.S_IFDIR:
		if change {
			return nil, syscall.EISDIR
		}
	case unix.S_IFLNK:
		return nil, syscall.ELOOP
	default:
		return nil, syscall.ENXIO
	}
	if flags&(OpenRead|OpenWrite) == 0 {
		return nil, syscall.EINVAL
	}
	if err := n.enter(change); err != nil {
		return nil, err
	}
	defer n.Close()
	if err := take(&n.t.handles, n.t.o.MaxHandles, syscall.EMFILE); err != nil {
		return nil, err
	}
	fd := -1
	if n.file == nil {
		var err error
		if fd, err = n.reopen(hostFlags(flags)); err != nil {
			n.t.handles.Add(-1)
			return nil, errno(err)
		}
	}
	return newHandle(n, fd, flags), nil
}

// Create makes a regular file and opens it, whatever its mode then allows. If
// there is one already it is opened (EEXIST with OpenExclusive).
func (n *Node) Create(name string, flags OpenFlags, mode uint32, o Owner) (*Node, *Handle, Attr, error) {
	if err := n.enterDir(name, true); err != nil {
		return nil, nil, Attr{}, err
	}
	defer n.Close()
	if flags&(OpenRead|OpenWrite) == 0 || flags&OpenDirectory != 0 {
		return nil, nil, Attr{}, syscall.EINVAL
	}
	// Between the two ways the entry can come and go; somebody who makes it
	// do so for ever gets ENOENT.
	for range 8 {
		node, h, a, err := n.createNew(name, flags, mode, o)
		if err != syscall.EEXIST || flags&OpenExclusive != 0 {
			return node, h, a, err
		}
		node, a, err = n.lookup(name)
		if err == syscall.ENOENT {
			continue
		}
		if err != nil {
			return nil, nil, Attr{}, err
		}
		h, err = node.Open(flags)
		if err == nil && flags&OpenTruncate != 0 {
			a, err = node.Attr()
			if err != nil {
				h.Close()
			}
		}
		if err != nil {
			node.Close()
			return nil, nil, Attr{}, err
		}
		return node, h, a, nil
	}
	return nil, nil, Attr{}, syscall.ENOENT
}

func (n *Node) createNew(name string, flags OpenFlags, mode uint32, o Owner) (_ *Node, _ *Handle, a Attr, err error) {
	if err := take(&n.t.handles, n.t.o.MaxHandles, syscall.EMFILE); err != nil {
		return nil, nil, Attr{}, err
	}
	fd, err := openAt(n.fd, name, hostFlags(flags)|unix.O_CREAT|unix.O_EXCL, mode&0o7777)
	if err != nil {
		n.t.handles.Add(-1)
		return nil, nil, Attr{}, errno(err)
	}
	node, err := n.adopt(name, fd)
	if err == nil {
		err = n.t.give(fd, mode, o)
	}
	if err == nil {
		a, err = node.Attr()
	}
	if err != nil {
		if node != nil {
			node.Close()
		}
		unix.Close(fd)
		n.t.handles.Add(-1)
		return nil, nil, Attr{}, errno(err)
	}
	return node, newHandle(node, fd, flags), a, nil
}

// give lets a new regular file belong to its owner. chown(2) takes the suid and
// sgid bits away, so they are put back.
func (t *Tree) give(fd int, mode uint32, o Owner) error {
	if !t.chown || o == t.self {
		return nil
	}
	if err := unix.Fchown(fd, int(o.UID), int(o.GID)); err != nil {
		return err
	}
	if mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		return unix.Fchmod(fd, mode&0o7777)
	}
	return nil
}

// made returns the node of an object that was just made under name, and gives
// it to its owner.
func (n *Node) made(name string, kind, mode uint32, o Owner) (*Node, Attr, error) {
	node, a, err := n.lookup(name)
	if err != nil {
		return nil, Attr{}, err
	}
	// Whoever put something else in its place on the host keeps its owner.
	if !n.t.chown || o == n.t.self || node.kind != kind || a.UID != n.t.self.UID {
		return node, a, nil
	}
	err = node.setOwner(o.UID, o.GID)
	if err == nil && kind != unix.S_IFLNK && mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		err = node.setMode(mode & 0o7777)
	}
	if err == nil {
		a, err = node.Attr()
	}
	if err != nil {
		node.Close()
		return nil, Attr{}, errno(err)
	}
	return node, a, nil
}

// Mkdir makes a directory.
func (n *Node) Mkdir(name string, mode uint32, o Owner) (*Node, Attr, error) {
	if err := n.enterDir(name, true); err != nil {
		return nil, Attr{}, err
	}
	defer n.Close()
	if err := unix.Mkdirat(n.fd, name, mode&0o7777); err != nil {
		return nil, Attr{}, errno(err)
	}
	return n.made(name, unix.S_IFDIR, mode, o)
}

// Symlink makes a symbolic link; target is any text of 1 to 4095 bytes.
func (n *Node) Symlink(name, target string, o Owner) (*Node, Attr, error) {
	if err := n.enterDir(name, true); err != nil {
		return nil, Attr{}, err
	}
	defer n.Close()
	switch {
	case target == "":
		return nil, Attr{}, syscall.ENOENT
	case len(target) > 4095:
		return nil, Attr{}, syscall.ENAMETOOLONG
	}
	if err := unix.Symlinkat(target, n.fd, name); err != nil {
		return nil, Attr{}, errno(err)
	}
	return n.made(name, unix.S_IFLNK, 0, o)
}

// Mknod makes a FIFO, a socket or an empty regular file, by the S_IFMT part of
// mode; EPERM for devices.
func (n *Node) Mknod(name string, mode uint32, o Owner) (*Node, Attr, error) {
	if err := n.enterDir(name, true); err != nil {
		return nil, Attr{}, err
	}
	defer n.Close()
	kind := mode & unix.S_IFMT
	switch kind {
	case 0:
		kind = unix.S_IFREG
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return nil, Attr{}, syscall.EPERM
	}
	if err := makeNode(n.fd, name, kind|mode&0o7777); err != nil {
		return nil, Attr{}, errno(err)
	}
	return n.made(name, kind, mode, o)
}

// Link makes name in the directory n another name of target, which is not a
// directory.
func (n *Node) Link(name string, target *Node) error {
	if err := n.enterDir(name, true); err != nil {
		return err
	}
	defer n.Close()
	if target.t != n.t {
		return syscall.EXDEV
	}
	if target.kind == unix.S_IFDIR {
		return syscall.EPERM
	}
	if err := target.enter(true); err != nil {
		return err
	}
	defer target.Close()
	return errno(target.linkTo(n.fd, name))
}

// Rename renames an entry of n to newName in newDir; flags are RenameNoReplace
// or RenameExchange (EINVAL where the host has them not).
func (n *Node) Rename(name string, newDir *Node, newName string, flags uint32) error {
	if err := n.enterDir(name, true); err != nil {
		return err
	}
	defer n.Close()
	if err := newDir.enterDir(newName, true); err != nil {
		return err
	}
	defer newDir.Close()
	if newDir.t != n.t {
		return syscall.EXDEV
	}
	if flags&^(RenameNoReplace|RenameExchange) != 0 {
		return syscall.EINVAL
	}
	if err := n.rename(name, newDir, newName, flags); err != nil {
		return errno(err)
	}
	n.renamed(name, newDir, newName, flags == RenameExchange)
	return nil
}

// Unlink removes an entry that is not a directory. Who has it open keeps it.
func (n *Node) Unlink(name string) error {
	if err := n.enterDir(name, true); err != nil {
		return err
	}
	defer n.Close()
	return errno(unix.Unlinkat(n.fd, name, 0))
}

// Rmdir removes an empty directory.
func (n *Node) Rmdir(name string) error {
	if err := n.enterDir(name, true); err != nil {
		return err
	}
	defer n.Close()
	return errno(unix.Unlinkat(n.fd, name, unix.AT_REMOVEDIR))
}

// Readlink is the target of a symbolic link, EINVAL for anything else.
func (n *Node) Readlink() (string, error) {
	if n.kind != unix.S_IFLNK {
		return "", syscall.EINVAL
	}
	if err := n.enter(false); err != nil {
		return "", err
	}
	defer n.Close()
	buf := make([]byte, 4096)
	k, err := n.readlink(buf)
	if err != nil {
		return "", errno(err)
	}
	return string(buf[:k]), nil
}

// StatFS is what statfs(2) says of the file system that the node is on.
func (n *Node) StatFS() (StatFS, error) {
	if n.file != nil {
		return n.file.StatFS()
	}
	if err := n.enter(false); err != nil {
		return StatFS{}, err
	}
	defer n.Close()
	s, err := n.statfs()
	return s, errno(err)
}
