//go:build linux

package volumes

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

const (
	// flushTime bounds the wait for what was written to leave the guest. It is
	// long, for it is the user's data, and a host's disk may be slow.
	flushTime = 60 * time.Second
	// cutTime is how long the end of a 9P connection may take to end what waits
	// for it.
	cutTime = 2 * time.Second
	// releasePause is the time between two looks at whether a disk is free.
	releasePause = 5 * time.Millisecond
)

// Close ends the use of all volumes: what was written to them is on its way
// to the host's disk, or on it. Volumes for which that is not so are in its
// errors. It may be called again and then does nothing.
func (v *Volumes) Close() []error { return v.close(flushTime) }

func (v *Volumes) close(limit time.Duration) []error {
	mounted := v.mounted
	v.mounted = nil
	notified := v.notifier.stop()
	type result struct {
		at  int
		err error
	}
	results := make(chan result, len(mounted))
	for i, m := range mounted {
		go func() {
			select {
			case <-notified: // it has files of the volumes open
			case <-time.After(limit / 2):
			}
			results <- result{i, m.close()}
		}()
	}
	ended := make([]bool, len(mounted))
	errs := make([]error, len(mounted))
	waiting := len(mounted)
	wait := func(limit time.Duration) {
		timeout := time.After(limit)
		for waiting > 0 {
			select {
			case r := <-results:
				ended[r.at], errs[r.at] = true, r.err
				waiting--
			case <-timeout:
				return
			}
		}
	}
	wait(limit)
	if waiting > 0 {
		for i, m := range mounted {
			if !ended[i] && m.socket >= 0 {
				_ = unix.Shutdown(m.socket, unix.SHUT_RDWR)
			}
		}
		wait(cutTime)
	}
	for i, m := range mounted {
		switch {
		case !ended[i]:
			errs[i] = fmt.Errorf("it did not end within %v", limit)
		case m.socket >= 0:
			unix.Close(m.socket)
		}
		if errs[i] != nil {
			errs[i] = fmt.Errorf("the volume for %s may lack some of what was written to it last: %w", m.Target, errs[i])
		}
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// close writes what is to be written and unmounts the filesystem.
func (m *volume) close() error {
	if m.dir == "" {
		return nil
	}
	var err error
	// What was written to a virtiofs is on the host by now, with the end of
	// those who had its files open; syncfs(2) would wait for the host's disk.
	if !m.ReadOnly && m.Kind != wire.VolumeVirtioFS {
		// Not left to unmount(2), which does it only when nobody else has the
		// filesystem mounted: the container's mounts may end a little later.
		err = syncFilesystem(m.dir)
	}
	if unix.Unmount(m.dir, 0) != nil {
		// Something of the guest holds it. What was written is written.
		_ = unix.Mount("", m.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		return err
	}
	if m.Kind == wire.VolumeDisk && !m.ReadOnly {
		err = errors.Join(err, released(m.Device))
	}
	return err
}

// released waits until no filesystem has the disk any more: only then is it
// marked as one that needs no journal replay. The container's own mount of it
// ends with its namespace, which the kernel takes down when it has time. O_EXCL
// is what open(2) says of block devices: EBUSY while one is mounted.
func released(device string) error {
	for deadline := time.Now().Add(flushTime / 4); ; {
		fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			return unix.Close(fd)
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("wait for the end of the use of %s: %w", device, err)
		}
		time.Sleep(releasePause)
	}
}
