package tree

import (
	"bytes"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What the kernel bounds (linux/limits.h).
const (
	MaxXattrName  = 255
	MaxXattrValue = 64 << 10
	maxXattrList  = 64 << 10
)

// Flags of SetXattr, as setxattr(2) of Linux has them.
const (
	XattrCreate  = 1
	XattrReplace = 2
)

// The access control lists of acl(5).
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// passes says whether the guest may see and set the attribute.
func passes(name string) bool {
	return strings.HasPrefix(name, "user.") && len(name) > len("user.") || name == aclAccess || name == aclDefault
}

func checkXattr(name string) error {
	if name == "" || len(name) > MaxXattrName {
		return syscall.ERANGE
	}
	if strings.IndexByte(name, 0) >= 0 {
		return syscall.EINVAL
	}
	return nil
}

// GetXattr is the value of an attribute; noAttr (ENODATA on Linux) if there is
// none or none that passes.
func (n *Node) GetXattr(name string) ([]byte, error) {
	if err := checkXattr(name); err != nil {
		return nil, err
	}
	if !passes(name) || n.file != nil {
		return nil, noAttr
	}
	if err := n.enter(false); err != nil {
		return nil, err
	}
	defer n.Close()
	buf := make([]byte, 256)
	for {
		k, err := n.getXattr(name, buf)
		if err == unix.ERANGE && len(buf) < MaxXattrValue {
			buf = make([]byte, MaxXattrValue)
			continue
		}
		if err != nil {
			return nil, errno(err)
		}
		return buf[:k:k], nil
	}
}

// ListXattr is the names that pass, each ended by NUL.
func (n *Node) ListXattr() ([]byte, error) {
	if n.file != nil {
		return nil, nil
	}
	if err := n.enter(false); err != nil {
		return nil, err
	}
	defer n.Close()
	buf := make([]byte, 512)
	for {
		k, err := n.listXattr(buf)
		if err == unix.ERANGE && len(buf) < maxXattrList {
			buf = make([]byte, maxXattrList)
			continue
		}
		if err == unix.ENOTSUP {
			return nil, nil
		}
		if err != nil {
			return nil, errno(err)
		}
		var list []byte
		for name := range bytes.SplitSeq(buf[:k], []byte{0}) {
			if passes(string(name)) {
				list = append(append(list, name...), 0)
			}
		}
		return list, nil
	}
}

// SetXattr sets an attribute; flags are XattrCreate or XattrReplace. EOPNOTSUPP
// for those that do not pass.
func (n *Node) SetXattr(name string, value []byte, flags int) error {
	if len(value) > MaxXattrValue {
		return syscall.E2BIG
	}
	if flags&^(XattrCreate|XattrReplace) != 0 {
		return syscall.EINVAL
	}
	return n.changeXattr(name, func() error { return n.setXattr(name, value, flags) })
}

// RemoveXattr removes an attribute.
func (n *Node) RemoveXattr(name string) error {
	return n.changeXattr(name, func() error { return n.removeXattr(name) })
}

func (n *Node) changeXattr(name string, change func() error) error {
	if err := checkXattr(name); err != nil {
		return err
	}
	if !passes(name) || n.file != nil {
		return syscall.EOPNOTSUPP
	}
	if err := n.enter(true); err != nil {
		return err
	}
	defer n.Close()
	return errno(change())
}
