//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"bake/internal/hypervisor"
	"bake/internal/platform"
)

// wholeFile returns a file that a child opens by its ChildPath and that holds
// the resource and nothing else. It is always the receiver's to close.
func wholeFile(dir string, r hypervisor.Resource) (*os.File, error) {
	if r.File != nil {
		offset, size, err := window(r)
		if err != nil {
			return nil, err
		}
		length, err := fileSize(r.File)
		if err != nil {
			return nil, fmt.Errorf("the %s cannot be read: %w", r.Name, err)
		}
		if offset == 0 && size == length {
			return duplicate(r.File, r.Name)
		}
	}
	in, err := reader(r)
	if err != nil {
		return nil, err
	}
	return platform.MemoryFile(dir, r.Name, in, in.Size())
}

// diskFile returns the file of a disk with the access mode that QEMU asks for
// by its descriptor set: it takes only one that is exactly right. It is always
// the receiver's to close.
func diskFile(dir string, disk hypervisor.Disk) (*os.File, error) {
	f, err := disk.Resource.File, error(nil)
	if f == nil {
		f, err = wholeFile(dir, disk.Resource)
		if err != nil {
			return nil, err
		}
		defer f.Close()
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, fmt.Errorf("the disk %s cannot be used: %w", disk.Resource.Name, err)
	}
	mode := flags & unix.O_ACCMODE
	switch {
	case disk.ReadOnly && mode != unix.O_RDONLY:
		ro, err := os.Open(platform.ChildPath(int(f.Fd())))
		if err != nil {
			return nil, fmt.Errorf("the disk %s cannot be opened again for reading alone: %w", disk.Resource.Name, err)
		}
		return ro, nil
	case !disk.ReadOnly && mode != unix.O_RDWR:
		return nil, fmt.Errorf("the disk %s is to be written, but its file is not open for reading and writing", disk.Resource.Name)
	}
	return duplicate(f, disk.Resource.Name)
}

func duplicate(f *os.File, name string) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("keep the %s open: %w", name, err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// closeAll closes files and joins the errors.
func closeAll[C io.Closer](files []C) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
