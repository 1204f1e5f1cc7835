//go:build linux && !portabletree

package tree

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// place has nothing to know: a node is its descriptor.
type place struct{}

func (n *Node) gone() {}

// platform is the directory of the process's own descriptors: NAME in it leads
// to the object that descriptor NAME is open on (proc_pid_fd(5)).
type platform struct{ fds int }

const procFDs = "/proc/self/fd"

func (p *platform) open() (err error) {
	p.fds, err = unix.Open(procFDs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return err
}

// close leaves the directory to nodes that outlive the tree.
func (p *platform) close() {}

func (p *platform) opened(*Handle) {}
func (p *platform) closed(*Handle) {}

func (t *Tree) rootNode(fd int) (*Node, error) {
	own, err := unix.Openat(t.platform.fds, strconv.Itoa(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	n, _, err := t.newNode(own)
	return n, err
}

// newNode takes the O_PATH descriptor fd over, or closes it.
func (t *Tree) newNode(fd int) (*Node, Attr, error) {
	if err := take(&t.nodes, t.o.MaxNodes, syscall.ENFILE); err != nil {
		unix.Close(fd)
		return nil, Attr{}, err
	}
	n := &Node{t: t, desc: newDesc(fd, &t.nodes)}
	a, err := n.stat()
	if err != nil {
		n.Close()
		return nil, Attr{}, errno(err)
	}
	n.id, n.kind = a.ID, a.Type()
	t.show(&a)
	return n, a, nil
}

func (n *Node) lookup(name string) (*Node, Attr, error) {
	fd, err := openPath(n.fd, name)
	if err != nil {
		return nil, Attr{}, errno(err)
	}
	return n.t.newNode(fd)
}

// openPath opens what the single name is in dir, a link as the link itself.
func openPath(dir int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.ENOSYS, unix.EPERM:
			// Before Linux 5.6, or a seccomp filter that knows less. One
			// component and O_NOFOLLOW lead nowhere else either.
			return openAt(dir, name, unix.O_PATH, 0)
		}
		return fd, err
	}
}

// openAt opens or creates the single name in dir.
func openAt(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// adopt makes the node of the file that was just created with descriptor fd,
// with a descriptor of its own: the file must not stay open for writing
// because somebody remembers it (ETXTBSY).
func (n *Node) adopt(_ string, fd int) (*Node, error) {
	own, err := unix.Openat(n.t.platform.fds, strconv.Itoa(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	node, _, err := n.t.newNode(own)
	return node, err
}

// number is the node's name in the directory of descriptors.
func (n *Node) number() string { return strconv.Itoa(n.fd) }

// proc is a path to the node itself.
func (n *Node) proc() string { return procFDs + "/" + n.number() }

func (n *Node) reopen(flags int) (int, error) {
	for {
		// O_NONBLOCK: an open never waits, for a lease or otherwise.
		fd, err := unix.Openat(n.t.platform.fds, n.number(), flags|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (n *Node) stat() (Attr, error) { return statFD(n.fd) }

func statFD(fd int) (Attr, error) { return statX(fd, "", unix.AT_EMPTY_PATH) }

func (n *Node) statfs() (StatFS, error) { return statfsFD(n.fd) }

func (n *Node) setOwner(uid, gid uint32) error {
	return unix.Fchownat(n.fd, "", int(int32(uid)), int(int32(gid)), unix.AT_EMPTY_PATH)
}

func (n *Node) setMode(mode uint32) error {
	return unix.Fchmodat(n.t.platform.fds, n.number(), mode, 0)
}

func (n *Node) truncate(size int64) error { return unix.Truncate(n.proc(), size) }

func (n *Node) setTimes(s *SetAttr) error {
	ts := s.times()
	return unix.UtimesNanoAt(n.t.platform.fds, n.number(), ts[:], 0)
}

func (n *Node) readlink(buf []byte) (int, error) { return unix.Readlinkat(n.fd, "", buf) }

func (n *Node) linkTo(dir int, name string) error {
	// AT_EMPTY_PATH would ask for CAP_DAC_READ_SEARCH.
	return unix.Linkat(n.t.platform.fds, n.number(), dir, name, unix.AT_SYMLINK_FOLLOW)
}

func (n *Node) rename(name string, newDir *Node, newName string, flags uint32) error {
	return unix.Renameat2(n.fd, name, newDir.fd, newName, uint(flags))
}

// renamed has nothing to follow.
func (n *Node) renamed(string, *Node, string, bool) {}

func makeNode(dir int, name string, mode uint32) error { return unix.Mknodat(dir, name, mode, 0) }

func (n *Node) getXattr(name string, buf []byte) (int, error) {
	return unix.Getxattr(n.proc(), name, buf)
}

func (n *Node) listXattr(buf []byte) (int, error) { return unix.Listxattr(n.proc(), buf) }

func (n *Node) setXattr(name string, value []byte, flags int) error {
	return unix.Setxattr(n.proc(), name, value, flags)
}

func (n *Node) removeXattr(name string) error { return unix.Removexattr(n.proc(), name) }
