//go:build !linux

package archive

import (
	"archive/tar"

	"golang.org/x/sys/unix"
)

// pseudo is for Linux, whose file systems of this kind are many.
func pseudo(int) bool { return false }

// mknod makes nothing: there is no call that makes a special file in a directory
// that is known by its descriptor.
func mknod(int, string, *tar.Header) error { return unix.ENOTSUP }
