//go:build linux

package mounts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/agent/dm"
	"bake/internal/wire"
)

// imageTypes are the filesystems that an image may be packed as, each with
// its mount data. noload: a journal of a read-only device cannot be replayed.
var imageTypes = map[string]string{"erofs": "", "squashfs": "", "ext4": "noload"}

// MountImage mounts the image's filesystem read-only on [Base].
func MountImage(ctx context.Context, r wire.Rootfs) error {
	data, ok := imageTypes[r.Type]
	if !ok {
		return fmt.Errorf("the image's filesystem is of the type %.32q and must be erofs, squashfs or ext4", r.Type)
	}
	if !Known(r.Type) {
		return fmt.Errorf("the guest's kernel does not know %s, the type of the image's filesystem: take a kernel that does, or give its module in the initrd", r.Type)
	}
	device, err := imageDevice(ctx, r)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, Base, r.Type, unix.MS_RDONLY, data); err != nil {
		return fmt.Errorf("mount the image's %s filesystem from %s: %w", r.Type, device, explainMount(err))
	}
	return nil
}

// explainMount says what mount(2)'s two usual errors mean here.
func explainMount(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EIO) {
		return fmt.Errorf("%w: it is damaged, begins elsewhere, or needs a newer kernel", err)
	}
	return err
}

// imageDevice is the block device that holds the filesystem and nothing else.
func imageDevice(ctx context.Context, r wire.Rootfs) (string, error) {
	if r.Device == "" {
		return "", errors.New("the boot manifest names no device for the image's filesystem")
	}
	if err := WaitForDevice(ctx, r.Device); err != nil {
		return "", err
	}
	if r.Size == 0 && r.Offset == 0 {
		return r.Device, nil
	}
	size, number, err := deviceSize(r.Device)
	if err != nil {
		return "", err
	}
	l, err := window(r, size)
	if err != nil {
		return "", err
	}
	l.Major, l.Minor = unix.Major(number), unix.Minor(number)
	mapped, err := dm.CreateLinear(l)
	if err != nil {
		return "", err
	}
	return mapped, WaitForDevice(ctx, mapped)
}

// window checks the image's window in a device of size bytes.
func window(r wire.Rootfs, size int64) (dm.Linear, error) {
	switch {
	case r.Offset < 0 || r.Size <= 0 || r.Offset%dm.SectorSize != 0 || r.Size%dm.SectorSize != 0:
		return dm.Linear{}, fmt.Errorf("the image's window in %s, offset %d and size %d, is not in whole sectors of %d bytes", r.Device, r.Offset, r.Size, dm.SectorSize)
	case r.Offset > size || r.Size > size-r.Offset:
		return dm.Linear{}, fmt.Errorf("the image's window in %s, offset %d and size %d, goes beyond the device's end at %d: the app is truncated", r.Device, r.Offset, r.Size, size)
	}
	return dm.Linear{
		Name:   "rootfs",
		Start:  uint64(r.Offset) / dm.SectorSize,
		Length: uint64(r.Size) / dm.SectorSize,
	}, nil
}

func deviceSize(path string) (size int64, number uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, fmt.Errorf("open the image's block device: %w", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, 0, fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("%s is no block device", path)
	}
	if size, err = f.Seek(0, 2); err != nil {
		return 0, 0, fmt.Errorf("learn the size of %s: %w", path, err)
	}
	return size, st.Rdev, nil
}

const (
	deviceTime = 10 * time.Second
	devicePoll = 2 * time.Millisecond
)

// WaitForDevice waits until devtmpfs has made the node of a device whose
// driver may still be looking for it.
func WaitForDevice(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	for {
		_, err := os.Stat(path)
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look for the block device %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the block device %s did not appear within %v; there are %v", path, deviceTime, blockDevices())
		case <-time.After(devicePoll):
		}
	}
}

func blockDevices() []string {
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return nil
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, "/dev/"+e.Name())
	}
	slices.Sort(names)
	return names
}
