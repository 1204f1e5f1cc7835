package tree

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// noAttr says that there is no such extended attribute.
const noAttr = unix.ENOATTR

// Numbers of sys/fcntl.h and sys/unistd.h of XNU.
const (
	seekHole = 3
	seekData = 4
	setLock  = 90 // F_OFD_SETLK
	getLock  = 92 // F_OFD_GETLK
)

func attrOf(st *unix.Stat_t) Attr {
	ts := func(t unix.Timespec) Timespec { return Timespec{t.Sec, uint32(t.Nsec)} }
	return Attr{
		ID:        ID{uint64(uint32(st.Dev)), st.Ino},
		Mode:      uint32(st.Mode),
		Nlink:     uint32(st.Nlink),
		UID:       st.Uid,
		GID:       st.Gid,
		Major:     unix.Major(uint64(st.Rdev)),
		Minor:     unix.Minor(uint64(st.Rdev)),
		Size:      st.Size,
		Blocks:    uint64(st.Blocks),
		BlockSize: uint32(st.Blksize),
		Atime:     ts(st.Atim), Mtime: ts(st.Mtim), Ctime: ts(st.Ctim), Btime: ts(st.Btim),
	}
}

func statFD(fd int) (Attr, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return attrOf(&st), err
}

func statAt(dir int, name string) (Attr, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return attrOf(&st), err
}

// openDir opens a directory to walk through; one that may only be searched and
// not read too (O_SEARCH, which is O_EXEC with O_DIRECTORY).
func openDir(dir int, name string) (int, error) {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == unix.EACCES {
		const oExec = 0x40000000
		return openAt(dir, name, oExec|unix.O_DIRECTORY, 0)
	}
	return fd, err
}

// reopenFile opens the file that fd is open on anew (fdesc(4) would only
// duplicate the descriptor): by the path that the kernel knows for it.
func reopenFile(fd, flags int) (int, error) {
	var was unix.Stat_t
	if err := unix.Fstat(fd, &was); err != nil {
		return -1, err
	}
	// volfs names files by device and number.
	path := "/.vol/" + strconv.FormatInt(int64(was.Dev), 10) + "/" + strconv.FormatUint(was.Ino, 10)
	now, err := openAt(unix.AT_FDCWD, path, flags&^unix.O_TRUNC, 0)
	if err != nil {
		return -1, err
	}
	var is unix.Stat_t
	if err = unix.Fstat(now, &is); err == nil && (is.Dev != was.Dev || is.Ino != was.Ino) {
		err = syscall.ESTALE
	}
	if err == nil && flags&unix.O_TRUNC != 0 {
		err = unix.Ftruncate(now, 0)
	}
	if err != nil {
		unix.Close(now)
		return -1, err
	}
	return now, nil
}

func chmodAt(dir int, name string, mode uint32) error {
	return unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}

func setTimesFD(fd int, ts [2]unix.Timespec) error {
	a, err := statFD(fd)
	if err != nil {
		return err
	}
	var tv [2]unix.Timeval
	for i, old := range [2]Timespec{a.Atime, a.Mtime} {
		switch ts[i].Nsec {
		case utimeOmit:
			tv[i] = unix.NsecToTimeval(old.Time().UnixNano())
		case utimeNow:
			if err := unix.Gettimeofday(&tv[i]); err != nil {
				return err
			}
		default:
			tv[i] = unix.NsecToTimeval(ts[i].Nano())
		}
	}
	return unix.Futimes(fd, tv[:])
}

func (n *Node) rename(name string, newDir *Node, newName string, flags uint32) error {
	switch flags {
	case 0:
		return unix.Renameat(n.fd, name, newDir.fd, newName)
	case RenameNoReplace:
		return unix.RenameatxNp(n.fd, name, newDir.fd, newName, unix.RENAME_EXCL)
	case RenameExchange:
		return unix.RenameatxNp(n.fd, name, newDir.fd, newName, unix.RENAME_SWAP)
	}
	return syscall.EINVAL
}

// makeNode makes a regular file; there is no mkfifoat(2) or mknodat(2) before
// macOS 13, and none in the packages that are used here.
func makeNode(dir int, name string, mode uint32) error {
	if mode&unix.S_IFMT != unix.S_IFREG {
		return syscall.EOPNOTSUPP
	}
	fd, err := openAt(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, mode&0o7777)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func statfsFD(fd int) (StatFS, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(fd, &s); err != nil {
		return StatFS{}, err
	}
	return StatFS{
		Type: s.Type, BlockSize: s.Bsize,
		Blocks: s.Blocks, Free: s.Bfree, Avail: s.Bavail, Files: s.Files, FilesFree: s.Ffree,
		FSID:    uint64(uint32(s.Fsid.Val[0])) | uint64(uint32(s.Fsid.Val[1]))<<32,
		NameLen: 255,
	}, nil
}

// xattrFlags are those of setxattr(2) here, where they have other numbers.
func xattrFlags(f int) (h int) {
	if f&XattrCreate != 0 {
		h |= 2
	}
	if f&XattrReplace != 0 {
		h |= 4
	}
	return h
}

// fsync asks the disk to write what it has (F_FULLFSYNC), which fsync(2) does
// not here; on file systems that cannot, it is fsync(2).
func fsync(fd int, _ bool) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0); err == nil {
		return nil
	}
	return unix.Fsync(fd)
}

func allocate(fd int, mode uint32, off, size int64) error { return syscall.EOPNOTSUPP }

func copyRange(from int, off int64, to int, toOff int64, size int) (int, error) {
	return 0, syscall.EOPNOTSUPP
}

// readNames is the entries of a directory that is open as fd, from the start.
func readNames(fd int) ([]savedEntry, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
	var all []savedEntry
	buf := make([]byte, dirBuffer)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return all, nil
		}
		for b := buf[:n]; len(b) > 0; {
			// struct dirent: ino[8] seekoff[8] reclen[2] namlen[2] type[1] name
			const header = 21
			if len(b) < header {
				return nil, syscall.EIO
			}
			size := int(b[16]) | int(b[17])<<8
			length := int(b[18]) | int(b[19])<<8
			if size < header || size > len(b) || header+length > size {
				return nil, syscall.EIO
			}
			var ino uint64
			for i := range 8 {
				ino |= uint64(b[i]) << (8 * i)
			}
			if ino != 0 {
				all = append(all, savedEntry{ino, b[20], string(b[header : header+length])})
			}
			if len(all) > maxSaved {
				return nil, syscall.ENOMEM
			}
			b = b[size:]
		}
	}
}
