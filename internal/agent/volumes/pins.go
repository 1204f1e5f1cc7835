//go:build linux

package volumes

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// pinLimit bounds the directories of one volume that are pinned: as many as the
// host watches.
const pinLimit = 8192

// raiseFileLimit lets this process have the directories of all volumes open. It
// is no loss if it may not: then fewer are pinned.
func raiseFileLimit() {
	var limit unix.Rlimit
	const enough = 1 << 20 // the kernel's default for fs.nr_open
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Max < enough {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: enough, Max: enough})
	}
}

// pins hold directories of a 9P share. Without a cache v9fs makes a new inode
// at every look at a name that nobody has open (v9fs_vfs_lookup of
// fs/9p/vfs_inode.c), and a watch stays with the inode that it began with, which
// nobody ever sees again. As long as a directory is open, those who look find
// that one.
//
// A pinned directory that the host replaces by another of its name is believed
// in until the host tells that the first is gone.
type pins struct {
	root int
	dirs map[string]int // descriptors by path in the volume
}

// newPins pins the directories of the volume at dir, the upper ones first.
func newPins(dir string, progress func()) *pins {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	raiseFileLimit()
	p := &pins{root: root, dirs: map[string]int{}}
	for queue := []string{""}; len(queue) > 0 && len(p.dirs) < pinLimit; queue = queue[1:] {
		if progress != nil {
			progress()
		}
		queue = append(queue, p.directories(queue[0], pinLimit-len(queue))...)
	}
	return p
}

// directories pins those that are in the directory at a path, limit at most,
// and returns their paths.
func (p *pins) directories(name string, limit int) (found []string) {
	fd, err := openBeneath(p.root, name)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	list, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(list), "directory")
	defer f.Close()
	for len(found) < limit {
		entries, err := f.ReadDir(256)
		for _, e := range entries {
			if e.IsDir() && len(found) < limit && p.add(path.Join(name, e.Name())) {
				found = append(found, path.Join(name, e.Name()))
			}
		}
		if err != nil {
			return found
		}
	}
	return found
}

// add pins the directory at a path, if it is not and the limit allows.
func (p *pins) add(name string) bool {
	if p == nil || name == "" || len(p.dirs) >= pinLimit {
		return false
	}
	if _, ok := p.dirs[name]; ok {
		return false
	}
	fd, err := openBeneath(p.root, name)
	if err != nil {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		unix.Close(fd)
		return false
	}
	p.dirs[name] = fd
	return true
}

// remove lets go of the directory at a path, and of all in it.
func (p *pins) remove(name string) {
	if p == nil {
		return
	}
	for dir, fd := range p.dirs {
		if dir == name || strings.HasPrefix(dir, name+"/") {
			unix.Close(fd)
			delete(p.dirs, dir)
		}
	}
}

func (p *pins) close() {
	if p == nil {
		return
	}
	for _, fd := range p.dirs {
		unix.Close(fd)
	}
	unix.Close(p.root)
	p.dirs = nil
}
