//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"bake/internal/hypervisor"
)

const (
	maxCPUs = 128
	// minMemoryMiB is what a small kernel needs beside itself and its initrd.
	minMemoryMiB = 32
	maxMemoryMiB = 16 << 20
	sectorSize   = 512
	// maxCommandLine is COMMAND_LINE_SIZE of the kernel's
	// arch/{x86,arm64}/include/*/asm/setup.h, less the terminating zero and room
	// for what the driver adds.
	maxCommandLine = 2048 - 1 - 160
)

// check refuses what QEMU would refuse with less clear words, or not at all.
func (d *Driver) check(cfg hypervisor.Config) error {
	if cfg.Arch != d.arch() {
		return fmt.Errorf("this QEMU runs %s guests, but the guest is for %q", d.arch(), cfg.Arch)
	}
	if d.arch() != "amd64" && d.arch() != "arm64" {
		return fmt.Errorf("guests for %s are not supported: use amd64 or arm64", d.arch())
	}
	if cfg.CPUs < 1 || cfg.CPUs > maxCPUs {
		return fmt.Errorf("a VM cannot have %d CPUs: give --cpus a number from 1 to %d", cfg.CPUs, maxCPUs)
	}
	if cfg.EmulatedCPUs < 0 || cfg.EmulatedCPUs > maxCPUs {
		return fmt.Errorf("an emulated VM cannot have %d CPUs: at most %d", cfg.EmulatedCPUs, maxCPUs)
	}
	if len(cfg.CommandLine) > maxCommandLine {
		return fmt.Errorf("the kernel command line has %d bytes, and the kernel takes no more than %d: shorten --boot-args", len(cfg.CommandLine), maxCommandLine)
	}
	for _, c := range []byte(cfg.CommandLine) {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("the kernel command line has a control character (%#02x) in it: check --boot-args", c)
		}
	}
	if len(cfg.Disks) > maxDisks {
		return fmt.Errorf("a VM cannot have %d disks: QEMU's machine takes %d here", len(cfg.Disks), maxDisks)
	}
	for i, disk := range cfg.Disks {
		if err := checkDisk(disk); err != nil {
			return fmt.Errorf("disk %d (%s): %w", i, disk.Resource.Name, err)
		}
	}
	if err := checkShares(cfg); err != nil {
		return err
	}
	kernel, err := checkKernel(d.arch(), cfg.Kernel)
	if err != nil {
		return err
	}
	_, initrd, err := window(cfg.Initrd)
	if err != nil {
		return err
	}
	return checkMemory(cfg.MemoryMiB, kernel, initrd)
}

// checkMemory refuses what cannot hold the kernel, the initrd and the initrd
// unpacked.
func checkMemory(mib int, kernel, initrd int64) error {
	if mib > maxMemoryMiB {
		return fmt.Errorf("a VM cannot have %d MiB of memory: give --memory at most %d", mib, maxMemoryMiB)
	}
	const limit = maxMemoryMiB << 20
	if kernel > limit || initrd > limit {
		return errors.New("the kernel and the initrd do not fit into any VM's memory")
	}
	need := int((kernel+2*initrd)>>20) + minMemoryMiB
	if mib < need {
		return fmt.Errorf("%d MiB of memory are too little for this kernel and initrd: give --memory at least %d", mib, need)
	}
	return nil
}

func checkDisk(disk hypervisor.Disk) error {
	offset, size, err := window(disk.Resource)
	if err != nil {
		return err
	}
	if size == 0 || size%sectorSize != 0 || offset%sectorSize != 0 {
		return fmt.Errorf("a disk is made of sectors of %d bytes, so %d bytes at offset %d cannot be one", sectorSize, size, offset)
	}
	if !disk.ReadOnly && disk.Resource.File == nil {
		return errors.New("a disk made of bytes must be read-only")
	}
	return nil
}

// window is the offset and size of a resource, checked against its file.
func window(r hypervisor.Resource) (offset, size int64, err error) {
	if r.File == nil {
		return 0, int64(len(r.Bytes)), nil
	}
	length, err := fileSize(r.File)
	if err != nil {
		return 0, 0, fmt.Errorf("the %s cannot be read: %w", r.Name, err)
	}
	offset, size = r.Offset, r.Size
	if offset < 0 || offset > length {
		return 0, 0, fmt.Errorf("the %s begins at byte %d of %s, which has %d bytes", r.Name, offset, r.File.Name(), length)
	}
	if size == -1 {
		size = length - offset
	}
	if size < 0 || size > length-offset {
		return 0, 0, fmt.Errorf("the %s takes %d bytes from byte %d of %s, which has %d bytes", r.Name, size, offset, r.File.Name(), length)
	}
	return offset, size, nil
}

// fileSize is the size of a regular file or a block device.
func fileSize(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	switch mode := st.Mode(); {
	case mode.IsRegular():
		return st.Size(), nil
	case mode.Type() == fs.ModeDevice:
		n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKGETSIZE64)
		if err != nil {
			return 0, fmt.Errorf("ask for the size of the block device %s: %w", f.Name(), err)
		}
		return int64(n), nil
	}
	return 0, fmt.Errorf("%s is neither a regular file nor a block device", f.Name())
}
