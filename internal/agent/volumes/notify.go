//go:build linux

package volumes

import (
	"fmt"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// noticeLimit bounds the changes that wait to be made known. The oldest gives
// way to the newest: a watcher that sees any event of a directory looks again.
const noticeLimit = 4096

// A notifier makes the host's changes known to those who watch a volume with
// inotify(7): it changes nothing, in a way that the kernel tells of.
type notifier struct {
	volumes map[string]*watched
	done    chan struct{}

	mu      sync.Mutex
	changed *sync.Cond // queue or stopped
	stopped bool
	queue   []notice
	ops     map[notice]string
}

// A notice names what has changed.
type notice struct{ volume, path string }

// watched is a volume of which the host tells changes.
type watched struct {
	dir  string
	pins *pins // or nil
}

// newNotifier returns nil if no volume wants to know.
func newNotifier(mounted []*volume, progress func()) *notifier {
	n := &notifier{volumes: map[string]*watched{}, done: make(chan struct{}), ops: map[notice]string{}}
	n.changed = sync.NewCond(&n.mu)
	for _, m := range mounted {
		if !m.Notify {
			continue
		}
		w := &watched{dir: m.dir}
		if m.Kind == wire.Volume9P && m.Cache != wire.CacheLoose && !m.File {
			w.pins = newPins(m.dir, progress)
		}
		n.volumes[m.ID] = w
	}
	if len(n.volumes) == 0 {
		return nil
	}
	go n.run()
	return n
}

// stop ends the notifier; done is closed when it has let go of all files.
func (n *notifier) stop() (done <-chan struct{}) {
	if n == nil {
		c := make(chan struct{})
		close(c)
		return c
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = true
	n.changed.Signal()
	return n.done
}

// Notify makes a change known that the host tells of (wire.HostVolume). It does
// not wait for that.
func (v *Volumes) Notify(m wire.HostMessage) error {
	if v.notifier == nil {
		return fmt.Errorf("the host tells of a change in the volume %.32q, and none has asked for that", m.Volume)
	}
	return v.notifier.add(m)
}

func (n *notifier) add(m wire.HostMessage) error {
	if n.volumes[m.Volume] == nil {
		return fmt.Errorf("the host tells of a change in the volume %.32q, which has not asked for that", m.Volume)
	}
	switch m.Op {
	case wire.VolumeCreate, wire.VolumeWrite, wire.VolumeRemove, wire.VolumeRename:
	default:
		return fmt.Errorf("the host tells of a change of an unknown kind, %.32q", m.Op)
	}
	p := string(m.Path)
	if !validPath(p) {
		return fmt.Errorf("the host tells of a change of %.256q, which is no path in a volume", p)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	key := notice{m.Volume, p}
	if before, waits := n.ops[key]; waits {
		n.ops[key] = merge(before, m.Op)
		return nil
	}
	if len(n.queue) >= noticeLimit {
		delete(n.ops, n.queue[0])
		n.queue = n.queue[1:]
	}
	n.queue = append(n.queue, key)
	n.ops[key] = m.Op
	n.changed.Signal()
	return nil
}

// merge is what is left of two changes of the same path that wait: the newest,
// but that what was made and then written to was made.
func merge(before, after string) string {
	if before == wire.VolumeCreate && after == wire.VolumeWrite {
		return before
	}
	return after
}

// validPath says whether p is empty, for the volume's root, or names on a way
// down from it.
func validPath(p string) bool {
	if len(p) > wire.VolumePathLimit || strings.ContainsRune(p, 0) {
		return false
	}
	if p == "" {
		return true
	}
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return true
}

func (n *notifier) run() {
	defer close(n.done)
	defer func() {
		for _, w := range n.volumes {
			w.pins.close()
		}
	}()
	for {
		n.mu.Lock()
		for len(n.queue) == 0 && !n.stopped {
			n.changed.Wait()
		}
		if n.stopped {
			n.mu.Unlock()
			return
		}
		key := n.queue[0]
		n.queue = n.queue[1:]
		op := n.ops[key]
		delete(n.ops, key)
		n.mu.Unlock()
		n.volumes[key.volume].tell(key.path, op)
	}
}

// tell makes one change known. That the file is not there any more, or that
// the host lets nobody touch it, is how things are.
func (w *watched) tell(p, op string) {
	root, err := unix.Open(w.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(root)
	gone := op == wire.VolumeRemove || op == wire.VolumeRename
	if gone {
		w.pins.remove(p)
	}
	fd, err := openBeneath(root, p)
	if err == nil {
		defer unix.Close(fd)
		if touch(fd) == unix.S_IFDIR && !gone {
			w.pins.add(p)
		}
	}
	if !gone || p == "" {
		return
	}
	dir, err := openBeneath(root, parent(p))
	if err != nil {
		return
	}
	defer unix.Close(dir)
	touch(dir)
}

// parent is the directory of a path in a volume, empty for its root.
func parent(p string) string {
	if dir := path.Dir(p); dir != "." {
		return dir
	}
	return ""
}

// openBeneath opens what is at a path below root, through no link and into no
// other filesystem, for looking at it.
func openBeneath(root int, p string) (int, error) {
	if p == "" {
		p = "."
	}
	return unix.Openat2(root, p, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// touch gives an open file or directory the times that it has. The host does
// nothing of that; the guest's kernel tells watchers of changed attributes and,
// of a file, of a change and the end of writing, and learns the attributes anew
// (fsnotify_change in the kernel's fsnotify.h: both times are IN_ATTRIB, that
// of modification alone is IN_MODIFY). It returns the kind of file, 0 if it is
// gone.
func touch(fd int) (kind uint32) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
		return 0
	}
	kind = uint32(st.Mode) & unix.S_IFMT
	if kind == unix.S_IFLNK {
		return kind
	}
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	atime := unix.Timespec{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)}
	mtime := unix.Timespec{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, self, []unix.Timespec{atime, mtime}, 0)
	if kind != unix.S_IFREG {
		return kind
	}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, self, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}, 0)
	if w, err := unix.Open(self, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err == nil {
		unix.Close(w)
	}
	return kind
}
