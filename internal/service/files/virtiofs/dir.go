//go:build linux

package virtiofs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"bake/internal/service/files/tree"
)

func (fs *fileSystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, st := fs.nodes.get(in.NodeId)
	if !st.Ok() {
		return st
	}
	defer n.Close()
	h, err := n.Open(tree.OpenRead | tree.OpenDirectory)
	if err != nil {
		return status(err)
	}
	out.Fh = fs.files.add(h, in.NodeId)
	return fuse.OK
}

func (fs *fileSystem) ReleaseDir(in *fuse.ReleaseIn) {
	if f := fs.files.take(in.Fh); f != nil {
		f.close()
	}
}

func entry(d *tree.Dirent) fuse.DirEntry {
	return fuse.DirEntry{Mode: uint32(d.Type) << 12, Name: string(d.Name), Ino: d.Ino, Off: d.Offset}
}

func (fs *fileSystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	return status(f.handle.Readdir(in.Offset, func(d *tree.Dirent) bool {
		return out.AddDirEntry(entry(d))
	}))
}

// ReadDirPlus looks every entry up, too.
func (fs *fileSystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return fuse.EBADF
	}
	dir := f.handle.Node()
	return status(f.handle.Readdir(in.Offset, func(d *tree.Dirent) bool {
		e := entry(d)
		told := out.AddDirLookupEntry(e)
		if told == nil {
			return false
		}
		if e.Name == "." || e.Name == ".." {
			return true
		}
		// An entry that is gone by now, or for which there is no descriptor,
		// is a name without an object: the guest looks it up if it must.
		if n, a, err := fs.nodes.lookup(dir, e.Name); err == nil {
			fs.tell(n, &a, in.NodeId, e.Name, told)
		}
		return true
	}))
}
