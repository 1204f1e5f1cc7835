package ext4

import "encoding/binary"

// journalBlocks is how long a journal is: what mke2fs(8) gives up to 16 GiB,
// which is 64 MiB, and no more for larger filesystems. More would let more
// processes change metadata at once, for up to a gigabyte of the host's disk.
func journalBlocks(blocks uint64) uint64 {
	switch {
	case blocks < 32768: // 128 MiB
		return 1024
	case blocks < 256<<10: // 1 GiB
		return 4096
	case blocks < 512<<10:
		return 8192
	}
	return 16384
}

// journalSuperblock writes struct journal_superblock_s of include/linux/jbd2.h,
// of an empty journal: all else of it reads as zeros.
func (f *formatter) journalSuperblock() {
	if f.journal == 0 {
		return
	}
	be := binary.BigEndian
	b := make([]byte, 1024)
	be.PutUint32(b[0x00:], 0xc03b3998) // magic
	be.PutUint32(b[0x04:], 4)          // superblock, version 2
	be.PutUint32(b[0x0c:], blockSize)
	be.PutUint32(b[0x10:], uint32(f.journal))
	be.PutUint32(b[0x14:], 1) // the log's first block
	be.PutUint32(b[0x18:], 1) // the first transaction's number
	copy(b[0x30:0x40], f.UUID[:])
	be.PutUint32(b[0x40:], 1) // users
	f.write(b, f.journalBlock(), 0)
}

// journalFields are the superblock's: where the journal is, twice, so that
// e2fsck finds it without the inode.
func (f *formatter) journalFields(b []byte) {
	if f.journal == 0 {
		return
	}
	le.PutUint32(b[0xe0:], journalInode)
	b[0xfd] = 1 // what follows is a backup of the inode's i_block and i_size
	copy(b[0x10c:], f.journalFile().extents())
	le.PutUint32(b[0x10c+64:], uint32(f.journal*blockSize))
}
