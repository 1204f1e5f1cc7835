package platform

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A RunDir is a private directory, mode 0700, for the sockets of one running
// process. Its path is short enough for Unix sockets in it: sun_path holds 108
// bytes on Linux (unix(7)) and 104 on macOS.
//
// The process holds an exclusive flock(2) on the directory itself. The kernel
// drops it when the process dies, however it dies, and [Sweep] removes the
// directories that nobody holds. systemd-tmpfiles(8) leaves locked directories
// alone too.
type RunDir struct {
	path string
	dir  *os.File
}

// maxBase bounds the base directory's path, so that with an identifier (17
// bytes with its slash) and a socket name of up to 24 bytes it fits sun_path.
const maxBase = 104 - 1 - 17 - 25

// NewRunDir makes a directory in $XDG_RUNTIME_DIR/bake if that is this user's,
// private and short, else in /tmp/bake-UID.
func NewRunDir() (*RunDir, error) {
	base, err := runBase()
	if err != nil {
		return nil, err
	}
	return newRunDir(base)
}

func newRunDir(base string) (*RunDir, error) {
	for {
		var id [8]byte
		rand.Read(id[:]) // never fails since Go 1.24
		path := filepath.Join(base, hex.EncodeToString(id[:]))
		err := os.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("make a private directory for sockets: %w", err)
		}
		dir, err := lockDir(path, unix.LOCK_EX)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a Sweep took it before it was locked
		}
		if err != nil {
			os.Remove(path)
			return nil, fmt.Errorf("lock the directory for sockets %s: %w", path, err)
		}
		return &RunDir{path: path, dir: dir}, nil
	}
}

// Path is the directory's absolute path.
func (d *RunDir) Path() string { return d.path }

// Close removes the directory with all that is in it. It may be called again.
func (d *RunDir) Close() error {
	err := os.RemoveAll(d.path)
	if cerr := d.dir.Close(); err == nil && !errors.Is(cerr, fs.ErrClosed) {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("remove the directory for sockets %s: %w", d.path, err)
	}
	return nil
}

// Sweep removes the run directories that killed processes left behind, and
// says how many. It never removes one whose process lives.
func Sweep() (int, error) {
	base, err := runBase()
	if err != nil {
		return 0, err
	}
	return sweep(base)
}

func sweep(base string) (int, error) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return 0, fmt.Errorf("look for leftovers of killed processes: %w", err)
	}
	n := 0
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !isRunID(e.Name()) {
			continue
		}
		path := filepath.Join(base, e.Name())
		dir, err := lockDir(path, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.RemoveAll(path)
			dir.Close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove what a killed process left: %w", err))
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

// lockDir opens and locks a directory. The lock counts only while the path
// still leads to what was locked; otherwise the error is fs.ErrNotExist.
func lockDir(path string, how int) (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	_, err = retry(func() (int, error) { return 0, unix.Flock(fd, how) })
	if err != nil {
		dir.Close()
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	locked, err1 := dir.Stat()
	now, err2 := os.Lstat(path)
	if err1 != nil || err2 != nil || !os.SameFile(locked, now) {
		dir.Close()
		return nil, &fs.PathError{Op: "flock", Path: path, Err: fs.ErrNotExist}
	}
	return dir, nil
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func isRunID(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == 8
}

// runBase finds or makes the directory that holds run directories.
func runBase() (string, error) {
	uid := os.Getuid()
	if x := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(x) && private(x, uid) == nil {
		if base := filepath.Join(x, "bake"); len(base) <= maxBase && makePrivate(base, uid) == nil {
			return base, nil
		}
	}
	base := "/tmp/bake-" + strconv.Itoa(uid)
	if err := makePrivate(base, uid); err != nil {
		return "", fmt.Errorf("no directory for sockets: %w; remove it, or set XDG_RUNTIME_DIR to a directory of yours with mode 0700", err)
	}
	return base, nil
}

func makePrivate(path string, uid int) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return private(path, uid)
}

// private checks that path is a directory (no symbolic link) that only uid can
// use.
func private(path string, uid int) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is not a directory", path)
	case int(st.Uid) != uid:
		return fmt.Errorf("%s belongs to user %d and not to user %d", path, st.Uid, uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s is open to other users (mode %04o)", path, st.Mode&0o7777)
	}
	return nil
}
