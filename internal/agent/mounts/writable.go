//go:build linux

package mounts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// MountEphemeral mounts the writable disk, or a tmpfs if there is none, on
// [Ephemeral].
func MountEphemeral(ctx context.Context, e wire.Ephemeral) error {
	if e.Device == "" {
		if err := unix.Mount("tmpfs", Ephemeral, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("mount a tmpfs for what the container writes: %w", err)
		}
		return nil
	}
	if e.Type != "ext4" {
		return fmt.Errorf("the ephemeral disk's filesystem is of the type %.32q and must be ext4", e.Type)
	}
	if err := WaitForDevice(ctx, e.Device); err != nil {
		return err
	}
	// The host made a file of holes, which is zeroed as it is: noinit_itable
	// keeps the kernel from filling them. Barriers serve a disk that outlives
	// a crash. See the kernel's admin-guide/ext4.rst.
	data := "noinit_itable,nobarrier"
	if Discards(e.Device) {
		data += ",discard"
	}
	if err := unix.Mount(e.Device, Ephemeral, e.Type, unix.MS_NOATIME, data); err != nil {
		return fmt.Errorf("mount the ephemeral disk %s: %w", e.Device, explainMount(err))
	}
	return nil
}

// Discards says whether freed blocks can be given back to the host
// (Documentation/ABI/stable/sysfs-block).
func Discards(device string) bool {
	b, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(device), "queue/discard_max_bytes"))
	return err == nil && len(bytes.TrimSpace(b)) > 0 && string(bytes.TrimSpace(b)) != "0"
}

// overlayOptions are tried in this order; an older kernel may not know all.
//
//   - metacopy: chown and chmod copy no data.
//   - redirect_dir: directories of the image can be renamed.
//   - xino: inode numbers stay what they are when a file is written to.
//   - volatile: fsync waits for nothing, as nothing outlives the guest.
//
// See the kernel's filesystems/overlayfs.rst.
var overlayOptions = []string{
	",metacopy=on,redirect_dir=on,xino=auto,volatile",
	",xino=auto",
	"",
}

// MountOverlay mounts the image with [Ephemeral] over it on [Rootfs].
func MountOverlay() error {
	upper, work := filepath.Join(Ephemeral, "upper"), filepath.Join(Ephemeral, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	if err := copyRootAttributes(upper); err != nil {
		return err
	}
	data := "lowerdir=" + Base + ",upperdir=" + upper + ",workdir=" + work
	var err error
	for _, options := range overlayOptions {
		err = unix.Mount("overlay", Rootfs, "overlay", 0, data+options)
		if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("mount the overlay of the image and the ephemeral disk: %w", err)
	}
	return nil
}

// copyRootAttributes gives the overlay's root the image's owner and mode: its
// attributes are those of the upper directory.
func copyRootAttributes(upper string) error {
	var st unix.Stat_t
	if err := unix.Stat(Base, &st); err != nil {
		return fmt.Errorf("look at the image's root directory: %w", err)
	}
	if err := unix.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("set the owner of the root directory: %w", err)
	}
	if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
		return fmt.Errorf("set the mode of the root directory: %w", err)
	}
	return nil
}

// Unmount ends all use of the writable disk. What cannot be unmounted, because
// something holds it, is made read-only.
func Unmount() {
	for _, target := range []string{Rootfs, Ephemeral} {
		if unix.Unmount(target, 0) != nil {
			_ = unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
}
