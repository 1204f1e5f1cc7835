//go:build linux

// Package volumes mounts the volumes of the boot manifest in the guest, says
// where the container finds them, makes the host's changes known in them, and
// sees to it that what was written is out of the guest before it ends.
//
// Every volume but a tmpfs is mounted below one directory of the guest; the
// container gets bind mounts, which runc makes, so that links in the image lead
// nowhere but into its root filesystem. The package knows 9P as the kernel's
// mount options alone, and nothing of the host but the connection to its file
// server, which somebody else dials.
package volumes
