//go:build unix

package vmmbundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// checkOwner makes sure that only this user (and root) can put files into dir.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s is not known on this system", dir)
	}
	if int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others than user %d, and programs are started from it: set XDG_CACHE_HOME to a directory of your own", dir, os.Geteuid())
	}
	return nil
}

// lockDir takes the exclusive lock (flock(2)) on dir, waiting until ctx ends. The kernel takes it back when
// the process ends. On a file system without locks it is not locked and no error; unlock must be called all
// the same.
func lockDir(ctx context.Context, dir string) (locked bool, unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP):
			return err == nil, func() { f.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			f.Close()
			return false, nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return false, nil, fmt.Errorf("wait for another start that unpacks: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
