//go:build linux

package virtiofs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

const defaultACL = "system.posix_acl_default"

// permissions applies the umask of the program that makes an object, which the
// guest's kernel leaves to the server (FUSE_DONT_MASK), because it does not
// count in a directory with a default ACL (acl(5)).
func permissions(dir *tree.Node, mode, umask uint32) uint32 {
	if umask &= 0o777; umask == 0 || mode&umask == 0 {
		return mode
	}
	if _, err := dir.GetXattr(defaultACL); err == nil {
		return mode
	}
	return mode &^ umask
}

// owner is who gets a new object in dir: the program that makes it, with the
// group of the directory where that is the rule (inode(7), S_ISGID).
func owner(dir *tree.Node, in *fuse.InHeader) tree.Owner {
	o := tree.Owner{UID: in.Uid, GID: in.Gid}
	if a, err := dir.Attr(); err == nil && a.Mode&unix.S_ISGID != 0 {
		o.GID = a.GID
	}
	return o
}

// made is the end of every request that makes an object.
func (fs *fileSystem) made(n *tree.Node, a tree.Attr, err error, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if err != nil {
		return status(err)
	}
	return fs.tell(n, &a, in.NodeId, name, out)
}

func (fs *fileSystem) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer dir.Close()
	n, a, err := dir.Mknod(name, permissions(dir, in.Mode, in.Umask), owner(dir, &in.InHeader))
	return fs.made(n, a, err, &in.InHeader, name, out)
}

func (fs *fileSystem) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer dir.Close()
	n, a, err := dir.Mkdir(name, permissions(dir, in.Mode, in.Umask), owner(dir, &in.InHeader))
	return fs.made(n, a, err, &in.InHeader, name, out)
}

func (fs *fileSystem) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer dir.Close()
	n, a, err := dir.Symlink(name, target, owner(dir, in))
	return fs.made(n, a, err, in, name, out)
}

func (fs *fileSystem) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer dir.Close()
	// What is told is looked up by the new name: the old node's number may be
	// forgotten meanwhile.
	old, st := fs.nodes.get(in.Oldnodeid)
	if !st.Ok() {
		return st
	}
	defer old.Close()
	if err := dir.Link(name, old); err != nil {
		return status(err)
	}
	n, a, err := fs.nodes.lookup(dir, name)
	return fs.made(n, a, err, &in.InHeader, name, out)
}

func (fs *fileSystem) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	dir, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer dir.Close()
	return status(dir.Unlink(name))
}

func (fs *fileSystem) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	dir, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer dir.Close()
	return status(dir.Rmdir(name))
}

func (fs *fileSystem) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	dir, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer dir.Close()
	to, st := fs.nodes.get(in.Newdir)
	if !st.Ok() {
		return st
	}
	defer to.Close()
	return status(dir.Rename(name, to, newName, in.Flags))
}
