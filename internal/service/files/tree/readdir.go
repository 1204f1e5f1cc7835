package tree

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dirBuffer is what is read of a directory at once.
const dirBuffer = 32 << 10

// Readdir calls emit for the entries from offset on, which is 0 or the Offset
// of an entry, until emit says false: that entry was not taken. "." and ".."
// come first. The name is valid during the call only. Entries that are removed
// or made meanwhile may or may not be seen; others are, exactly once.
func (h *Handle) Readdir(offset uint64, emit func(*Dirent) bool) error {
	if err := h.enter(unix.S_IFDIR, OpenRead); err != nil {
		return err
	}
	defer h.release()
	h.mu.Lock()
	defer h.mu.Unlock()
	root := h.node == h.node.t.root
	if h.fd < 0 {
		return h.readdirFile(offset, emit)
	}
	own := h.node.t.mix(h.node.id.Dev, h.node.id.Ino)
	return h.dir.read(h.fd, offset, func(d *Dirent) bool {
		switch {
		case string(d.Name) == "." || root && string(d.Name) == "..":
			d.Ino = own // the root's parent is not the guest's affair
		default:
			d.Ino = h.node.t.mix(h.node.id.Dev, d.Ino)
		}
		return emit(d)
	})
}

// readdirFile lists the made-up root of a tree that is a single file.
func (h *Handle) readdirFile(offset uint64, emit func(*Dirent) bool) error {
	file, err := h.node.file.Attr()
	if err != nil {
		return err
	}
	self, err := h.node.Attr()
	if err != nil {
		return err
	}
	if offset > 3 {
		return syscall.EINVAL
	}
	all := [3]Dirent{
		{self.Ino, 1, unix.DT_DIR, []byte(".")},
		{self.Ino, 2, unix.DT_DIR, []byte("..")},
		{file.Ino, 3, uint8(file.Mode >> 12 & 15), []byte(FileName)},
	}
	for i := offset; i < 3; i++ {
		if !emit(&all[i]) {
			break
		}
	}
	return nil
}
