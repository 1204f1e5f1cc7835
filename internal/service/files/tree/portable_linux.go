//go:build portabletree

package tree

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// This is what of darwin's side Linux says otherwise, so that the tests run
// there with -tags portabletree.

func statFD(fd int) (Attr, error) { return statX(fd, "", unix.AT_EMPTY_PATH) }

func statAt(dir int, name string) (Attr, error) { return statX(dir, name, unix.AT_SYMLINK_NOFOLLOW) }

func openDir(dir int, name string) (int, error) {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == unix.EACCES {
		return openAt(dir, name, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	return fd, err
}

func reopenFile(fd, flags int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

func chmodAt(dir int, name string, mode uint32) error {
	fd, err := openAt(dir, name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

func setTimesFD(fd int, ts [2]unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), ts[:], 0)
}

func (n *Node) rename(name string, newDir *Node, newName string, flags uint32) error {
	return unix.Renameat2(n.fd, name, newDir.fd, newName, uint(flags))
}

func makeNode(dir int, name string, mode uint32) error { return unix.Mknodat(dir, name, mode, 0) }

func xattrFlags(f int) int { return f }

func readNames(fd int) ([]savedEntry, error) {
	own, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), "directory")
	defer f.Close()
	es, err := f.ReadDir(-1)
	if err != nil {
		return nil, syscall.EIO
	}
	all := []savedEntry{{0, unix.DT_DIR, "."}, {0, unix.DT_DIR, ".."}}
	for _, e := range es {
		all = append(all, savedEntry{1, unix.DT_UNKNOWN, e.Name()})
	}
	return all, nil
}
