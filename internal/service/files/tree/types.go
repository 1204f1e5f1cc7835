package tree

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what of the root is shown and what may be done to it.
type Options struct {
	// ReadOnly refuses every change with EROFS. What changes nothing (a
	// SetAttr of the values that are there) succeeds all the same.
	ReadOnly bool

	// File says that root is one file that is not a directory. The tree's root
	// is then a made-up directory whose only entry is FileName.
	File bool

	// UID and GID, if set, are shown as the owner of every object; a SetAttr
	// to them changes nothing, one to others is EPERM.
	UID, GID *uint32

	// Squash is for a server that is not root: what belongs to its user and
	// group is shown as 0:0 (what belongs to the host's root as 65534, as in a
	// user namespace). A SetAttr to the owner that is shown changes nothing;
	// to others it is EPERM. UID and GID go before it.
	Squash bool

	// MaxNodes and MaxHandles limit what is open at once: beyond them there is
	// ENFILE and EMFILE. 0 means DefaultMaxNodes and DefaultMaxHandles.
	MaxNodes, MaxHandles int
}

// The limits without others. The process's RLIMIT_NOFILE is one more.
const (
	DefaultMaxNodes   = 1 << 20
	DefaultMaxHandles = 1 << 16
)

// FileName is the entry of the root of a tree that is a single file.
const FileName = "file"

// nobody is the owner shown for what belongs to the host's root while the
// server's own user is shown as root (user_namespaces(7), overflowuid).
const nobody = 65534

// An ID is what tells objects apart on the host (st_dev, st_ino). Two nodes
// that are open at the same time have the same ID if and only if they are the
// same object, as the two names of a hard link are.
type ID struct{ Dev, Ino uint64 }

// A Timespec is a time as file systems keep it.
type Timespec struct {
	Sec  int64
	Nsec uint32
}

// Time is t as Go has it.
func (t Timespec) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// Attr is what stat(2) says of an object, as it is shown to the guest.
type Attr struct {
	ID  ID     // on the host
	Ino uint64 // stable and unique in the tree: st_ino, mixed with st_dev on other devices than the root's
	Gen uint32 // differs when Ino is used again for a new object (from the birth time; 0 if there is none)

	Mode         uint32 // S_IFMT and permissions; the values of Linux
	Nlink        uint32
	UID, GID     uint32
	Major, Minor uint32 // of a device node
	Size         int64
	Blocks       uint64 // of 512 bytes
	BlockSize    uint32 // preferred for I/O

	Atime, Mtime, Ctime, Btime Timespec
}

// Type is the S_IFMT part of the mode.
func (a *Attr) Type() uint32 { return a.Mode & unix.S_IFMT }

// SetMask says which parts of a SetAttr count.
type SetMask uint32

// Parts of SetAttr. The Now bits go before the values.
const (
	SetMode SetMask = 1 << iota
	SetUID
	SetGID
	SetSize
	SetAtime
	SetMtime
	SetAtimeNow
	SetMtimeNow
	SetCtime // only says that the change time moves; there is no value
)

// SetAttr is a change of attributes.
type SetAttr struct {
	Valid        SetMask
	Mode         uint32 // permissions with the suid, sgid and sticky bits
	UID, GID     uint32
	Size         int64
	Atime, Mtime Timespec
}

// An Owner is who gets a new object, as the guest sees users. It counts if the
// server is root and shows owners as they are; else new objects belong to the
// server's user.
type Owner struct{ UID, GID uint32 }

// OpenFlags are how a file is opened; protocols translate theirs.
type OpenFlags uint32

// Neither OpenRead nor OpenWrite is EINVAL.
const (
	OpenRead OpenFlags = 1 << iota
	OpenWrite
	OpenAppend // every write goes to the end as the host knows it
	OpenTruncate
	OpenExclusive // Create only
	OpenSync
	OpenDataSync
	OpenDirectory // ENOTDIR for anything else
)

// Flags of Rename, as renameat2(2) has them.
const (
	RenameNoReplace = 1
	RenameExchange  = 2
)

// A Dirent is one entry of a directory. Its offset is where the next begins:
// what Readdir is called with to go on after it.
type Dirent struct {
	Ino    uint64 // as Attr.Ino, except on mount points
	Offset uint64
	Type   uint8 // DT_* of getdents64(2)
	Name   []byte
}

// StatFS is what statfs(2) says, in blocks of BlockSize bytes.
type StatFS struct {
	Type                uint32
	BlockSize           uint32
	Blocks, Free, Avail uint64
	Files, FilesFree    uint64
	FSID                uint64
	NameLen             uint32
}

// checkName says whether a name is one that an entry of a directory can have.
func checkName(name string) error {
	if len(name) > 255 {
		return syscall.ENAMETOOLONG
	}
	if name == "" || name == "." || name == ".." {
		return syscall.EINVAL
	}
	for i := 0; i < len(name); i++ {
		if name[i] == '/' || name[i] == 0 {
			return syscall.EINVAL
		}
	}
	return nil
}

// mix makes one inode number of two.
func (t *Tree) mix(dev, ino uint64) uint64 {
	if dev == t.device {
		return ino
	}
	// The finalizer of splitmix64: the numbers of another device are moved by
	// an offset that no neighbouring device number has near.
	h := dev + 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return ino ^ (h ^ h>>31)
}

// generation folds a birth time to the number that tells two uses of one inode
// number apart.
func generation(t Timespec) uint32 {
	if t == (Timespec{}) {
		return 0
	}
	h := (uint64(t.Sec)*1e9 + uint64(t.Nsec)) * 0x9e3779b97f4a7c15
	return uint32(h>>32) | 1
}

// errno is the number in an error of package unix.
func errno(err error) error {
	if e, ok := err.(syscall.Errno); ok {
		return e
	}
	if err != nil {
		return syscall.EIO
	}
	return nil
}
