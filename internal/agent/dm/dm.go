//go:build linux

// Package dm maps a window of a block device to a block device of its own,
// with the device mapper's linear target. It speaks the ioctl interface of
// include/uapi/linux/dm-ioctl.h, version 4, and knows no other target.
package dm

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SectorSize is the device mapper's unit, whatever the device's own is.
const SectorSize = 512

const (
	controlPath = "/dev/mapper/control"

	cmdDevCreate  = 3
	cmdDevSuspend = 6 // without flagSuspend it resumes
	cmdTableLoad  = 9

	flagReadOnly = 1 << 0

	headerSize = 312 // struct dm_ioctl
	targetSize = 40  // struct dm_target_spec
	nameSize   = 128
)

// version is the interface version that requests claim. 4.0.0 has all that is
// used here; a kernel refuses another major number only.
var version = [3]uint32{4, 0, 0}

// A Linear is a read-only linear mapping.
type Linear struct {
	// Name is the mapping's name, at most 127 bytes.
	Name string
	// Major and Minor are the device that holds the window.
	Major, Minor uint32
	// Start and Length are the window in sectors of [SectorSize] bytes.
	Start, Length uint64
}

// CreateLinear makes the mapping and returns the block device's path. devtmpfs
// makes the node; it may take a moment to appear.
func CreateLinear(l Linear) (string, error) {
	if len(l.Name) == 0 || len(l.Name) >= nameSize {
		return "", fmt.Errorf("map a window of a block device: a name of %d bytes is not possible", len(l.Name))
	}
	control, err := os.OpenFile(controlPath, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("open the device mapper (the guest's kernel needs it when the root filesystem begins inside a file): %w", err)
	}
	defer control.Close()

	created := header(l.Name, 0, 0, 0)
	if err := call(control, cmdDevCreate, created); err != nil {
		return "", fmt.Errorf("create the mapped device %s: %w", l.Name, err)
	}
	if err := call(control, cmdTableLoad, loadRequest(l)); err != nil {
		return "", fmt.Errorf("map sectors %d to %d of device %d:%d: %w", l.Start, l.Start+l.Length, l.Major, l.Minor, err)
	}
	if err := call(control, cmdDevSuspend, header(l.Name, 0, flagReadOnly, 0)); err != nil {
		return "", fmt.Errorf("activate the mapped device %s: %w", l.Name, err)
	}
	dev := binary.NativeEndian.Uint64(created[40:])
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(dev)), nil
}

// header encodes a struct dm_ioctl that is followed by payload bytes:
//
//	version[3], data_size, data_start, target_count, open_count, flags,
//	event_nr, padding: 10 × u32; dev: u64; name[128]; uuid[129]; data[7]
func header(name string, targets, flags uint32, payload int) []byte {
	b := make([]byte, headerSize+payload)
	e := binary.NativeEndian
	for i, v := range version {
		e.PutUint32(b[4*i:], v)
	}
	e.PutUint32(b[12:], uint32(len(b)))
	e.PutUint32(b[16:], headerSize)
	e.PutUint32(b[20:], targets)
	e.PutUint32(b[28:], flags)
	copy(b[48:48+nameSize-1], name)
	return b
}

// loadRequest encodes a table of one target: a header, then struct
// dm_target_spec (sector_start u64, length u64, status s32, next u32,
// target_type[16]), then its parameters, NUL-terminated and padded to 8 bytes.
func loadRequest(l Linear) []byte {
	params := fmt.Sprintf("%d:%d %d", l.Major, l.Minor, l.Start)
	padded := (len(params) + 1 + 7) &^ 7
	b := header(l.Name, 1, flagReadOnly, targetSize+padded)
	e := binary.NativeEndian
	spec := b[headerSize:]
	e.PutUint64(spec[0:], 0)
	e.PutUint64(spec[8:], l.Length)
	e.PutUint32(spec[20:], uint32(targetSize+padded))
	copy(spec[24:40], "linear")
	copy(spec[targetSize:], params)
	return b
}

// request is _IOWR(0xfd, cmd, struct dm_ioctl), as asm-generic/ioctl.h has it.
func request(cmd uintptr) uintptr {
	const readWrite, typ = 3, 0xfd
	return readWrite<<30 | headerSize<<16 | typ<<8 | cmd
}

func call(control *os.File, cmd uintptr, b []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), request(cmd), uintptr(unsafe.Pointer(&b[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
