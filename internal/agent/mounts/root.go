//go:build linux

// Package mounts prepares the guest's filesystems: the root that runc can
// pivot away from, the kernel's own filesystems, the image's read-only
// filesystem, the writable disk, and the overlay of the two.
//
// It knows devices and paths, and nothing of the host.
package mounts

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The places that everything is mounted at. The directories are the initrd's.
const (
	Base      = "/rootfs.base"
	Ephemeral = "/ephemeral"
	Rootfs    = "/rootfs"
)

// LeaveInitramfs puts a mount over the initramfs that shows the same files.
// pivot_root(2), which runc needs, refuses to leave the initramfs itself,
// because it is the one mount that has no parent; and a process that was
// chrooted could create no user namespace. The memory of the initramfs stays
// in use, but it holds nothing that is not needed.
func LeaveInitramfs() error {
	if err := unix.Mount("/", Rootfs, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the initramfs: %w", err)
	}
	if err := unix.Chdir(Rootfs); err != nil {
		return fmt.Errorf("enter the bound initramfs: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the bound initramfs to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("make the bound initramfs the root: %w", err)
	}
	return unix.Chdir("/")
}
