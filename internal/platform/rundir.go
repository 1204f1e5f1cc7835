package platform

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// A RunDir is a private directory, mode 0700, for the sockets of one running
// process. Its path is short enough for Unix sockets in it and in one directory
// below: sun_path holds 108 bytes on Linux (unix(7)) and 104 on macOS.
//
// The process holds an exclusive flock(2) on the directory itself. The kernel
// drops it when the process dies, however it dies, and [Sweep] removes the
// directories that nobody holds. systemd-tmpfiles(8) leaves locked directories
// alone too.
//
// Everybody else only ever takes a shared lock, also to remove one: then whoever
// looks at the same time gets one too, and takes no dead process for a living.
type RunDir struct {
	path string
	dir  *os.File
}

// maxBase bounds the base directory's path, so that with an identifier (17
// bytes with its slash), a directory of two letters and a socket name of up to 24
// bytes it fits sun_path.
const maxBase = 104 - 1 - 17 - 3 - 25

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

// Path is the directory's absolute path. Its last part is 16 hexadecimal digits.
func (d *RunDir) Path() string { return d.path }

// ID is the last part of its path, which no other directory has.
func (d *RunDir) ID() string { return filepath.Base(d.path) }

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
	if _, err := runBase(); err != nil {
		return 0, err
	}
	n := 0
	var errs []error
	for _, base := range RunBases() {
		swept, err := sweep(base)
		n += swept
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

func sweep(base string) (int, error) {
	paths, err := runDirs(base)
	if err != nil {
		return 0, fmt.Errorf("look for leftovers of killed processes: %w", err)
	}
	n := 0
	var errs []error
	for _, path := range paths {
		dir, err := lockDir(path, unix.LOCK_SH|unix.LOCK_NB)
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

// runDirs are the directories in base that have the form of a run directory.
func runDirs(base string) ([]string, error) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if e.IsDir() && isRunID(e.Name()) {
			paths = append(paths, filepath.Join(base, e.Name()))
		}
	}
	return paths, nil
}

// LivingRunDirs returns the paths of this user's run directories whose processes
// live. It makes nothing, and takes some microseconds for each.
func LivingRunDirs() ([]string, error) {
	var living []string
	for _, base := range RunBases() {
		paths, err := runDirs(base)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for running processes: %w", err)
		}
		for _, path := range paths {
			if IsLiving(path) {
				living = append(living, path)
			}
		}
	}
	return living, nil
}

// IsLiving says whether the process of the run directory at path lives.
func IsLiving(path string) bool {
	dir, err := lockDir(path, unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		dir.Close()
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}

// LockDir waits for the exclusive flock(2) on the directory at path. Closing the
// file unlocks it.
func LockDir(path string) (*os.File, error) { return lockDir(path, unix.LOCK_EX) }

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
	base := tmpBase(uid)
	if err := makePrivate(base, uid); err != nil {
		return "", fmt.Errorf("no directory for sockets: %w; remove it, or set XDG_RUNTIME_DIR to a directory of yours with mode 0700", err)
	}
	return base, nil
}

func tmpBase(uid int) string { return "/tmp/bake-" + strconv.Itoa(uid) }

// RunBases are the directories, those that exist, in which run directories of
// this user can be: a service has no XDG_RUNTIME_DIR where its user's login has
// one.
func RunBases() []string {
	uid := os.Getuid()
	var bases []string
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run/user/" + strconv.Itoa(uid)} {
		base := filepath.Join(parent, "bake")
		if filepath.IsAbs(parent) && private(parent, uid) == nil && private(base, uid) == nil && !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	if base := tmpBase(uid); private(base, uid) == nil {
		bases = append(bases, base)
	}
	return bases
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
