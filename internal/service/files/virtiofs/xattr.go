//go:build linux

package virtiofs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
)

// fit is the answer to a question for n bytes into dest; 0 bytes of room ask
// for the size.
func fit(value, dest []byte, err error) (uint32, fuse.Status) {
	switch {
	case err != nil:
		return 0, status(err)
	case len(dest) == 0:
		return uint32(len(value)), fuse.OK
	case len(dest) < len(value):
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

func (fs *fileSystem) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return 0, st
	}
	defer n.Close()
	value, err := n.GetXattr(name)
	return fit(value, dest, err)
}

func (fs *fileSystem) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return 0, st
	}
	defer n.Close()
	list, err := n.ListXattr()
	return fit(list, dest, err)
}

func (fs *fileSystem) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer n.Close()
	if uint64(in.Size) != uint64(len(value)) {
		return fuse.EINVAL
	}
	return status(n.SetXattr(name, value, int(in.Flags)))
}

func (fs *fileSystem) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer n.Close()
	return status(n.RemoveXattr(name))
}
