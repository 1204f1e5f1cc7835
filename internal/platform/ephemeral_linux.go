package platform

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// unnamedFile uses O_TMPFILE (open(2)) where the filesystem has it.
func unnamedFile(dir string) (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_TMPFILE|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC|unix.O_LARGEFILE, 0o600)
	})
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), dir+"/(ephemeral disk)"), nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		// Filesystems (9p, NFS, some FUSE) and kernels without it say one of these.
		return createUnlinked(dir)
	}
	return nil, &os.PathError{Op: "open", Path: dir, Err: err}
}
