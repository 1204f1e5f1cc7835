//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Fill mounts the disk, writes and reads back a file whose every 8 bytes say
// where they are, and a few directories and attributes, and unmounts it.
func (machine) Fill(disk int, bytes int64) error {
	const dir = "/mnt/fill"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device(disk), dir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	err := fill(dir, bytes)
	if uerr := unix.Unmount(dir, 0); err == nil && uerr != nil {
		err = fmt.Errorf("unmount the disk: %w", uerr)
	}
	return err
}

func fill(dir string, bytes int64) error {
	for i := range 1000 {
		sub := filepath.Join(dir, fmt.Sprintf("d%d", i))
		if err := os.Mkdir(sub, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(sub, "file"), []byte(sub), 0o600); err != nil {
			return err
		}
	}
	if err := unix.Setxattr(dir, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("set an attribute: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	stamp := func(at int64) {
		for i := 0; i < len(block); i += 512 {
			binary.LittleEndian.PutUint64(block[i:], uint64(at)+uint64(i))
		}
	}
	for at := int64(0); at < bytes; at += int64(len(block)) {
		stamp(at)
		if _, err := f.Write(block); err != nil {
			return fmt.Errorf("write at %d: %w", at, err)
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// Read from the disk and not from memory.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for at := int64(0); at < bytes; at += int64(len(block)) {
		if _, err := io.ReadFull(f, block); err != nil {
			return fmt.Errorf("read at %d: %w", at, err)
		}
		for i := 0; i < len(block); i += 512 {
			if got := binary.LittleEndian.Uint64(block[i:]); got != uint64(at)+uint64(i) {
				return fmt.Errorf("byte %d reads as %d", at+int64(i), got)
			}
		}
	}
	return nil
}

// Journal mounts the disk and writes numbered lines to a file in it, with a
// directory entry for every hundredth, so that ext4's journal has work.
func (machine) Journal(disk int, synced io.Writer) error {
	const dir = "/mnt/journal"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device(disk), dir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer f.Close()
	for i := 0; ; i++ {
		line := fmt.Sprintf("%08d\n", i)
		if _, err := f.WriteString(line); err != nil {
			return err
		}
		if i%100 == 0 {
			if err := os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o755); err != nil {
				return err
			}
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if _, err := io.WriteString(synced, line); err != nil {
			return err
		}
	}
}
