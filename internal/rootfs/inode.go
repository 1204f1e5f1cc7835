package rootfs

import (
	"io"
	"time"
)

// File types and mode bits as Linux stores them in st_mode (inode(7)). They
// are spelt out because the tree describes a Linux file system on any host.
const (
	ModeType    = 0o170000
	ModeSocket  = 0o140000
	ModeSymlink = 0o120000
	ModeRegular = 0o100000
	ModeBlock   = 0o060000
	ModeDir     = 0o040000
	ModeChar    = 0o020000
	ModeFIFO    = 0o010000
	ModePerm    = 0o007777 // permissions with setuid, setgid and sticky
)

// Inode is one file of a tree. Hard links are several names for one Inode.
type Inode struct {
	Mode     uint32 // ModeType and ModePerm bits
	UID, GID uint32
	Mtime    time.Time
	Size     int64  // bytes of a regular file; length of a symlink's target
	Major    uint32 // of a device node
	Minor    uint32
	Target   string // of a symbolic link
	Xattrs   []Xattr

	content content

	// Of a directory only.
	children map[string]dirent
	opaque   int32 // latest layer from whose start nothing older is left in here

	// Set by Tree.index: stable for one state of the tree.
	num    uint32 // position in the enumeration
	nlink  uint32
	parent *Inode // of a directory
}

// Xattr is an extended attribute by its full name, such as
// "security.capability".
type Xattr struct {
	Name, Value string
}

// content says where the bytes of a regular file are: in ra from off, or in a
// file of the host.
type content struct {
	ra   io.ReaderAt
	off  int64
	host *hostFile
}

// hostFile is what an inode came from in a directory source.
type hostFile struct {
	dir   *dirSource
	path  string // beneath dir, with slashes
	stamp stamp
}

// stamp changes whenever a file of a directory source may have changed.
type stamp struct {
	device, ino uint64
	ctime       int64 // nanoseconds
}

// dirent binds a name to an inode; layer is the layer that said so last.
type dirent struct {
	node  *Inode
	layer int32
}

// IsDir reports whether n is a directory.
func (n *Inode) IsDir() bool { return n.Mode&ModeType == ModeDir }

// IsRegular reports whether n is a regular file.
func (n *Inode) IsRegular() bool { return n.Mode&ModeType == ModeRegular }

// IsSymlink reports whether n is a symbolic link.
func (n *Inode) IsSymlink() bool { return n.Mode&ModeType == ModeSymlink }

// Xattr returns the value of the extended attribute called name.
func (n *Inode) Xattr(name string) (string, bool) {
	for _, x := range n.Xattrs {
		if x.Name == name {
			return x.Value, true
		}
	}
	return "", false
}

func newDir(layer int32) *Inode {
	return &Inode{Mode: ModeDir | 0o755, Mtime: time.Unix(0, 0), children: map[string]dirent{}, opaque: layer}
}

// setMeta takes everything but the children from m.
func (n *Inode) setMeta(m *Inode) {
	n.Mode, n.UID, n.GID, n.Mtime, n.Xattrs = m.Mode, m.UID, m.GID, m.Mtime, m.Xattrs
	n.content.host = m.content.host
}
