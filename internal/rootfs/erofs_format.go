package rootfs

import (
	"encoding/binary"
	"strings"
)

// The on-disk format of EROFS: fs/erofs/erofs_fs.h of Linux, and
// https://erofs.docs.kernel.org/en/latest/core_ondisk.html. Little-endian.
const (
	erofsSuperOffset = 1024
	erofsSuperSize   = 128
	erofsMagic       = 0xE0F5E1E2
	erofsBlockBits   = 12
	erofsBlock       = 1 << erofsBlockBits // the only size that every kernel since 4.19 mounts
	erofsSlot        = 32                  // inodes are numbered by 32-byte slots

	erofsCompatChecksum = 1 << 0
	erofsCompatMtime    = 1 << 1
	erofsChunkedFile    = 1 << 2 // incompatible feature, Linux 5.15; only set when used

	// i_format: bit 0 the inode's size, bits 1-3 where its data is.
	erofsCompact   = 0
	erofsExtended  = 1
	erofsPlain     = 0 << 1 // whole blocks
	erofsInline    = 2 << 1 // whole blocks, the rest right after the inode
	erofsChunked   = 4 << 1 // an array of block addresses after the inode
	erofsNullBlock = 0xffffffff

	erofsCompactSize  = 32
	erofsExtendedSize = 64
	erofsDirentSize   = 12

	erofsXattrHeader = 12
	erofsXattrEntry  = 4
)

// erofsXattrIndex splits an attribute's name into the index of its prefix and
// the rest.
func erofsXattrIndex(name string) (index byte, rest string) {
	switch {
	case name == aclAccess:
		return 2, ""
	case name == aclDefault:
		return 3, ""
	case strings.HasPrefix(name, "user."):
		return 1, name[len("user."):]
	case strings.HasPrefix(name, "trusted."):
		return 4, name[len("trusted."):]
	default: // keepXattr lets nothing else in
		return 6, strings.TrimPrefix(name, "security.")
	}
}

// appendErofsXattr appends one attribute entry, padded to 4 bytes.
func appendErofsXattr(b []byte, x Xattr) []byte {
	index, rest := erofsXattrIndex(x.Name)
	b = append(b, byte(len(rest)), index)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(x.Value)))
	b = append(b, rest...)
	b = append(b, x.Value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func erofsXattrSize(x Xattr) int {
	_, rest := erofsXattrIndex(x.Name)
	return (erofsXattrEntry + len(rest) + len(x.Value) + 3) &^ 3
}

// encodeDevice packs a device number as the kernel's new_encode_dev does
// (include/linux/kdev_t.h); squashfs uses the same form.
func encodeDevice(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// fileType returns the FT_* number of a mode (include/linux/fs_types.h), as in
// EROFS directory entries.
func fileType(mode uint32) byte {
	switch mode & ModeType {
	case ModeRegular:
		return 1
	case ModeDir:
		return 2
	case ModeChar:
		return 3
	case ModeBlock:
		return 4
	case ModeFIFO:
		return 5
	default:
		return 7 // symlink
	}
}
