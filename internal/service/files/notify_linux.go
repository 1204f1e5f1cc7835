package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
	"bake/internal/wire"
)

// A watcher reports the changes in one volume by inotify(7). It walks and
// watches by descriptor, so that no link that the guest makes leads it out of
// the volume; that is also why it is not fsnotify, which takes paths.
type watcher struct {
	share *share
	say   *reporter
	out   *coalescer

	inotify *os.File
	fd      int
	// dirs are the watched directories, by watch descriptor. The path is from
	// the volume's root, "" for that.
	dirs map[int32]string
	full bool // the bound was said
}

const (
	// maxWatched bounds the directories of a volume that are watched. The
	// kernel's own bound is fs.inotify.max_user_watches.
	maxWatched = 8192
	// maxDepth bounds how deep they are.
	maxDepth = 64

	// watched are the events that matter. What changes attributes only is not
	// among them, nor the end of writing: the guest's agent makes its events that
	// way.
	watched = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_DELETE |
		unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	watchedDir  = watched | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK
	watchedFile = unix.IN_MODIFY
)

// notify begins to watch a volume, until ctx ends.
func (s *server) notify(ctx context.Context, sh *share) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify_init1: %w", err)
	}
	w := &watcher{
		share: sh, say: s.say, fd: fd, inotify: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{},
		out: newCoalescer(sh.ID, s.say),
	}
	if sh.File {
		_, err = w.add(int(sh.root.Fd()), watchedFile)
	} else {
		_, err = w.watch(int(sh.root.Fd()), "")
	}
	if err != nil {
		w.inotify.Close()
		return err
	}
	s.connections.Go(func() { w.out.run(ctx) })
	s.connections.Go(func() {
		stop := context.AfterFunc(ctx, func() { w.inotify.Close() })
		defer stop()
		// The tree may be large; what serves it does not wait.
		if !sh.File {
			w.walk(int(sh.root.Fd()), "", 0, false)
		}
		if err := w.read(); err != nil && ctx.Err() == nil {
			s.say.log("changes in %s are no longer reported: %v", sh.Path, err)
		}
	})
	return nil
}

// add watches what fd is open on.
func (w *watcher) add(fd int, mask uint32) (int32, error) {
	wd, err := unix.InotifyAddWatch(w.fd, fmt.Sprintf("/proc/self/fd/%d", fd), mask)
	return int32(wd), err
}

// watch watches a directory. It says so if it cannot, but at the root, where
// that is an error.
func (w *watcher) watch(fd int, dir string) (ok bool, err error) {
	if len(w.dirs) >= maxWatched {
		w.bound("it has more than %d folders", maxWatched)
		return false, nil
	}
	wd, err := w.add(fd, watchedDir)
	switch {
	case err == nil:
		w.dirs[wd] = dir
		return true, nil
	case dir == "":
		return false, fmt.Errorf("inotify_add_watch: %w", err)
	case errors.Is(err, unix.ENOSPC):
		w.bound("the host's limit for inotify is reached (sysctl fs.inotify.max_user_watches)")
	}
	return false, nil
}

// bound says, once, that not all is watched.
func (w *watcher) bound(format string, args ...any) {
	if !w.full {
		w.full = true
		w.say.warn("only a part of %s is watched for changes: %s", w.share.Path, fmt.Sprintf(format, args...))
	}
}

// walk watches the directories beneath the one that fd is open on, and with
// report tells of everything in them: it is new.
func (w *watcher) walk(fd int, dir string, depth int, report bool) {
	if depth >= maxDepth {
		return
	}
	// The descriptor that readdir needs; openat2(2) does not leave the volume.
	here, err := unix.Openat2(fd, ".", &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(here), dir)
	defer f.Close()
	for {
		entries, err := f.ReadDir(256)
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			if report {
				w.out.add(name, wire.VolumeCreate)
			}
			if !e.IsDir() {
				continue
			}
			if w.full {
				return
			}
			w.enter(here, e.Name(), name, depth+1, report)
		}
		if err != nil {
			return
		}
	}
}

// enter watches and walks the directory called name in the one at fd.
func (w *watcher) enter(fd int, name, full string, depth int, report bool) {
	child, err := unix.Openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(child)
	// Watched first and read then: what comes in between is reported.
	if ok, _ := w.watch(child, full); ok {
		w.walk(child, full, depth, report)
	}
}

// read takes events until there is an error, which closing inotify makes.
func (w *watcher) read() error {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.inotify.Read(buf)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
			size := unix.SizeofInotifyEvent + int(event.Len)
			if size > len(b) {
				return errors.New("the kernel gives half an event")
			}
			name := unix.ByteSliceToString(b[unix.SizeofInotifyEvent:size])
			w.event(event.Wd, event.Mask, name)
			b = b[size:]
		}
	}
}

// event handles one event.
func (w *watcher) event(wd int32, mask uint32, name string) {
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		w.say.log("more changes than the kernel keeps for one reader happened in %s, and some are lost", w.share.Path)
		return
	case mask&unix.IN_IGNORED != 0:
		delete(w.dirs, wd)
		return
	}
	if w.share.File {
		w.out.add(tree.FileName, wire.VolumeWrite)
		return
	}
	dir, ok := w.dirs[wd]
	if !ok || name == "" {
		return
	}
	full := path.Join(dir, name)
	switch {
	case mask&unix.IN_DELETE != 0:
		w.out.add(full, wire.VolumeRemove)
	case mask&unix.IN_MOVED_FROM != 0:
		if mask&unix.IN_ISDIR != 0 {
			w.forget(full)
		}
		w.out.add(full, wire.VolumeRename)
	case mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		w.out.add(full, wire.VolumeCreate)
		if mask&unix.IN_ISDIR != 0 {
			w.arrived(full)
		}
	default:
		w.out.add(full, wire.VolumeWrite)
	}
}

// forget ends the watches of a directory that is elsewhere now, and of those
// beneath it.
func (w *watcher) forget(dir string) {
	for wd, d := range w.dirs {
		if d == dir || strings.HasPrefix(d, dir+"/") {
			delete(w.dirs, wd)
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
		}
	}
}

// arrived watches a directory that is new, with all that is in it already.
func (w *watcher) arrived(dir string) {
	depth := strings.Count(dir, "/") + 1
	if w.full || depth > maxDepth {
		return
	}
	fd, err := unix.Openat2(int(w.share.root.Fd()), dir, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return // it is gone again
	}
	defer unix.Close(fd)
	if ok, _ := w.watch(fd, dir); ok {
		w.walk(fd, dir, depth, true)
	}
}
