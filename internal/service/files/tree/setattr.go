package tree

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// SetAttr changes attributes: owner, then mode (chown takes suid away), size,
// times. What changes nothing touches nothing and succeeds, on a read-only tree
// too; of times alone that holds for values, not for the Now bits.
// h, if not nil, is an open handle of the node: a size is set through it if it
// is open for writing, without asking the mode of the file.
func (n *Node) SetAttr(s SetAttr, h *Handle) error {
	if s.Valid == 0 {
		return nil
	}
	if err := n.enter(false); err != nil {
		return err
	}
	defer n.Close()
	now, err := n.Attr()
	if err != nil {
		return err
	}
	// The 9P client of Linux asks for the change time with each change.
	times := s.Valid&(SetAtime|SetMtime) != 0 && s.Valid&^(SetAtime|SetMtime|SetCtime) == 0
	if s.changesNothing(&now) && (n.t.o.ReadOnly || times) {
		return nil
	}
	switch {
	case n.t.o.ReadOnly:
		return syscall.EROFS
	case n.file != nil:
		return syscall.EPERM
	}
	if s.Valid&(SetUID|SetGID) != 0 {
		if err := n.changeOwner(&s, &now); err != nil {
			return err
		}
	}
	if s.Valid&SetMode != 0 {
		if n.kind == unix.S_IFLNK {
			return syscall.EOPNOTSUPP
		}
		if err := n.setMode(s.Mode & 0o7777); err != nil {
			return errno(err)
		}
	}
	if s.Valid&SetSize != 0 {
		if err := n.setSize(s.Size, h); err != nil {
			return errno(err)
		}
	}
	if s.Valid&(SetAtime|SetMtime|SetAtimeNow|SetMtimeNow) != 0 {
		err := n.setTimes(&s)
		if err == unix.EPERM && s.Valid&SetSize != 0 && s.Valid&(SetAtime|SetMtime) == 0 {
			// Who may write to a file of another's may truncate it, which
			// moves its times, but may not set one of them alone.
			err = nil
		}
		return errno(err)
	}
	if s.Valid == SetCtime {
		return errno(n.setOwner(^uint32(0), ^uint32(0)))
	}
	return nil
}

// changesNothing compares with the attributes that are shown.
func (s *SetAttr) changesNothing(now *Attr) bool {
	v := s.Valid
	return v&(SetAtimeNow|SetMtimeNow) == 0 &&
		(v&SetMode == 0 || s.Mode&0o7777 == now.Mode&0o7777) &&
		(v&SetUID == 0 || s.UID == now.UID) &&
		(v&SetGID == 0 || s.GID == now.GID) &&
		(v&SetSize == 0 || s.Size == now.Size) &&
		(v&SetAtime == 0 || s.Atime == now.Atime) &&
		(v&SetMtime == 0 || s.Mtime == now.Mtime)
}

// changeOwner does what chown(2) does, as far as owners are shown as they are.
func (n *Node) changeOwner(s *SetAttr, now *Attr) error {
	uid, gid := ^uint32(0), ^uint32(0) // -1: as it is
	if s.Valid&SetUID != 0 && s.UID != now.UID {
		if n.t.o.UID != nil || n.t.o.Squash {
			return syscall.EPERM
		}
		uid = s.UID
	}
	if s.Valid&SetGID != 0 && s.GID != now.GID {
		if n.t.o.GID != nil || n.t.o.Squash {
			return syscall.EPERM
		}
		gid = s.GID
	}
	if uid == ^uint32(0) && gid == ^uint32(0) && s.Valid&^(SetUID|SetGID|SetCtime) != 0 {
		return nil // something else moves the change time
	}
	return errno(n.setOwner(uid, gid))
}

func (n *Node) setSize(size int64, h *Handle) error {
	if n.kind == unix.S_IFDIR {
		return syscall.EISDIR
	}
	if n.kind != unix.S_IFREG || size < 0 {
		return syscall.EINVAL
	}
	if h != nil && h.flags&OpenWrite != 0 && h.acquire() {
		defer h.release()
		return unix.Ftruncate(h.fd, size)
	}
	return n.truncate(size)
}
