package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	sectorSize      = 512
	superblockAt    = 1024
	superblockSize  = 1024
	ext4Magic       = 0xef53
	journalDevice   = 0x0008 // incompat: a journal for other filesystems
	needsRecovery   = 0x0004 // incompat: the journal is not empty
	maxLogBlockSize = 6      // 64 KiB
)

// A superblock is what is read of struct ext4_super_block of the kernel's
// fs/ext4/ext4.h.
type superblock struct {
	size     int64 // of the filesystem, in bytes
	made     time.Time
	incompat uint32
}

var (
	le      = binary.LittleEndian
	errNone = errors.New("it has no ext4 filesystem (no magic number at byte 1080): make one with mkfs.ext4, or use a named volume, which is made by itself: NAME:/path")
)

// readSuperblock reads and checks the superblock of something that has size
// bytes.
func readSuperblock(r io.ReaderAt, size int64) (superblock, error) {
	var head [superblockAt + superblockSize]byte
	n, err := r.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return superblock{}, fmt.Errorf("read it: %w", err)
	}
	b := head[superblockAt:]
	if n < len(head) || le.Uint16(b[0x38:]) != ext4Magic {
		if what := otherFormat(head[:n]); what != "" {
			return superblock{}, fmt.Errorf("it has no ext4 filesystem but %s", what)
		}
		return superblock{}, errNone
	}
	s := superblock{
		made:     time.Unix(int64(le.Uint32(b[0x108:]))|int64(b[0x276])<<32, 0),
		incompat: le.Uint32(b[0x60:]),
	}
	if s.incompat&journalDevice != 0 {
		return superblock{}, errors.New("it is the journal of another filesystem, and none itself")
	}
	blocks := uint64(le.Uint32(b[0x04:]))
	if s.incompat&0x80 != 0 { // 64bit
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	logSize := le.Uint32(b[0x18:])
	if logSize > maxLogBlockSize || blocks > uint64(1<<62)>>(10+logSize) {
		return superblock{}, errors.New("its ext4 filesystem is broken (the superblock says what cannot be): try e2fsck")
	}
	s.size = int64(blocks << (10 + logSize))
	if s.size > size {
		return superblock{}, fmt.Errorf("its filesystem has %d bytes, but it has only %d: it was cut short, perhaps by a copy that was not finished", s.size, size)
	}
	return s, nil
}

// checkExt4 says what keeps a guest from mounting what is in r, which has size
// bytes.
func checkExt4(r io.ReaderAt, size int64, readOnly bool) error {
	s, err := readSuperblock(r, size)
	if err != nil {
		return err
	}
	if size%sectorSize != 0 {
		return fmt.Errorf("it has %d bytes, and a disk is made of sectors of %d: `truncate -s %%%[2]d FILE` makes it whole", size, sectorSize)
	}
	if readOnly && s.incompat&needsRecovery != 0 {
		return errors.New("it was not unmounted before its last user ended, and its journal has to be written back before it can be read: use it once without :ro, or run e2fsck on it")
	}
	return nil
}

// otherFormat names what begins as head does, for users who took the wrong
// file.
func otherFormat(head []byte) string {
	for _, f := range []struct {
		at    int
		magic string
		what  string
	}{
		{0, "QFI\xfb", "a disk in QEMU's qcow2 format: `qemu-img convert -O raw` makes a plain one of it"},
		{0, "KDMV", "a disk of VMware's: `qemu-img convert -O raw` makes a plain one of it"},
		{0, "XFSB", "an XFS filesystem"},
		{0, "hsqs", "a squashfs filesystem"},
		{1024, "\xe2\xe1\xf5\xe0", "an EROFS filesystem"},
		{0, "LUKS\xba\xbe", "encrypted contents (LUKS)"},
		{0, "\x1f\x8b", "compressed contents: unpack it with gunzip"},
		{0, "\x28\xb5\x2f\xfd", "compressed contents: unpack it with zstd -d"},
		{512, "EFI PART", "a partition table: give the partition, not the disk"},
		{510, "\x55\xaa", "a partition table, or a boot sector: give the partition, not the disk"},
	} {
		if len(head) >= f.at && bytes.HasPrefix(head[f.at:], []byte(f.magic)) {
			return f.what
		}
	}
	return ""
}
