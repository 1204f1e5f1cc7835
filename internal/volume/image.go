package volume

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// OpenImage opens an ext4 image, a file or a block device, for a VM: the file
// is locked with flock(2), shared to read and exclusively to write, as long as
// it, or a copy of its descriptor in another process, is open. A second user
// gets an error that says who the first is, where the host tells.
//
// The error also says what else keeps a guest from mounting it: that it is no
// ext4 filesystem, is cut short, or has to be repaired by writing before it
// can be read.
func OpenImage(path string, readOnly bool) (*os.File, error) {
	f, err := openImage(path, readOnly)
	if err != nil {
		return nil, fmt.Errorf("the disk image %s: %w", path, err)
	}
	return f, nil
}

func openImage(path string, readOnly bool) (*os.File, error) {
	// What is no file is not opened: a FIFO would wait for its other end.
	info, err := statImage(path)
	if err != nil {
		return nil, err
	}
	flags := unix.O_NONBLOCK
	if readOnly {
		flags |= os.O_RDONLY
	} else {
		flags |= os.O_RDWR
		if !info.Mode().IsRegular() {
			// Of a block device: nobody has it mounted, open(2).
			flags |= exclusive
		}
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, openError(err, readOnly)
	}
	if err := useImage(f, readOnly); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// useImage locks an open image and then looks at it.
func useImage(f *os.File, readOnly bool) error {
	if now, err := f.Stat(); err != nil {
		return fmt.Errorf("look at it: %w", err)
	} else if err := imageMode(f.Name(), now.Mode()); err != nil {
		return err
	}
	if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
		return fmt.Errorf("open it: %w", err)
	}
	if err := lock(f, readOnly); err != nil {
		return err
	}
	if loop := loopDevice(f); loop != "" && !readOnly {
		return fmt.Errorf("it is in use on this host as %s: unmount that, and detach it with `losetup -d %[1]s`", loop)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("ask for its size: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("ask for its size: %w", err)
	}
	return checkExt4(f, size, readOnly)
}

func openError(err error, readOnly bool) error {
	switch {
	case os.IsPermission(err) && readOnly:
		return fmt.Errorf("you may not read it: %w", err)
	case os.IsPermission(err):
		return fmt.Errorf("you may not write it, and without :ro it is written: %w", err)
	case isBusy(err):
		return fmt.Errorf("the device is mounted on this host, and two kernels would destroy its filesystem: unmount it first: %w", err)
	}
	return fmt.Errorf("open it: %w", err)
}
