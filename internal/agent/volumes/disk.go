//go:build linux

package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bake/internal/agent/mounts"
)

// optionsDisk are the mount data of a disk that is kept (the kernel's
// admin-guide/ext4.rst): barriers are on, as is everything that a crash needs.
//
//   - noinit_itable: a new image is made of holes, which read as the zeroes that
//     the kernel would otherwise fill them with.
//   - discard: what is deleted here is given back to the host.
//   - errors=remount-ro: what is damaged is not damaged further.
func optionsDisk(discards bool) string {
	options := "noinit_itable,errors=remount-ro"
	if discards {
		options += ",discard"
	}
	return options
}

// mountDisk mounts a filesystem image. The kernel replays its journal; a disk
// that the host gives read-only has to be without one to replay, since what is
// there before the replay is no consistent filesystem.
func (m *volume) mountDisk(ctx context.Context) error {
	if err := mounts.WaitForDevice(ctx, m.Device); err != nil {
		return err
	}
	err := unix.Mount(m.Device, m.dir, m.Type, m.flags(), optionsDisk(!m.ReadOnly && mounts.Discards(m.Device)))
	if err != nil {
		return fmt.Errorf("mount its %s filesystem from %s: %w", m.Type, m.Device, m.explainDisk(err))
	}
	return nil
}

func (m *volume) explainDisk(err error) error {
	switch {
	case errors.Is(err, unix.EROFS) && m.ReadOnly:
		return fmt.Errorf("%w: it was in use when its guest was killed, and its journal has to be replayed: run an app once that mounts it read-write", err)
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: the host gives it read-only", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.EIO):
		return fmt.Errorf("%w: the image holds no %s filesystem, or is damaged (e2fsck on the host finds out), or needs a newer kernel", err, m.Type)
	}
	return err
}

// prepareSubdir makes the directory that the container gets, and fills it.
func (m *volume) prepareSubdir(cfg Config) error {
	fi, err := os.Lstat(m.source)
	switch {
	case err == nil && !fi.IsDir():
		return fmt.Errorf("its %q is no directory but %v", m.Subdir, fi.Mode())
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("look for its %q: %w", m.Subdir, err)
	case err != nil && m.ReadOnly:
		return fmt.Errorf("it has no %q yet, and cannot get it while it is read-only: run an app once that mounts it read-write", m.Subdir)
	case m.ReadOnly:
		return nil
	}
	missing := err != nil
	if m.CopyUp {
		if !missing {
			entries, err := os.ReadDir(m.source)
			if err != nil {
				return fmt.Errorf("list its %q: %w", m.Subdir, err)
			}
			if len(entries) > 0 {
				return nil
			}
		}
		return m.copyUp(cfg)
	}
	if missing {
		if err := os.Mkdir(m.source, 0o755); err != nil {
			return fmt.Errorf("make its %q: %w", m.Subdir, err)
		}
	}
	return nil
}

// copyUp gives the volume what the image has at its place. All of it is on the
// disk before it has the name that says so: a copy that was interrupted is
// begun again.
func (m *volume) copyUp(cfg Config) error {
	partial := filepath.Join(m.dir, ".bake-copy-of-image")
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("remove a copy of the image's files that was not finished: %w", err)
	}
	if err := copyImage(cfg.Rootfs, m.Target, partial, cfg.Progress); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("%w: make a larger volume", err)
		}
		// What is there is removed the next time too.
		_ = os.RemoveAll(partial)
		return err
	}
	if err := syncFilesystem(m.dir); err != nil {
		return fmt.Errorf("write the copy of the image's files to the disk: %w", err)
	}
	if err := unix.Rename(partial, m.source); err != nil { // over an empty directory too, unlike os.Rename
		return fmt.Errorf("finish the copy of the image's files: %w", err)
	}
	if err := syncFilesystem(m.dir); err != nil {
		return fmt.Errorf("write the copy of the image's files to the disk: %w", err)
	}
	return nil
}

// syncFilesystem waits until all that was written to the filesystem at dir is
// on the disk (syncfs(2)).
func syncFilesystem(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}
