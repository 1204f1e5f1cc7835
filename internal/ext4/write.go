package ext4

import (
	"encoding/binary"
	"io"
)

var le = binary.LittleEndian

// A formatter writes one filesystem. After an error it writes no more.
type formatter struct {
	Options
	layout
	w   io.WriterAt
	err error
	// seed is what the checksums of metadata_csum begin with.
	seed uint32
}

func (f *formatter) format() {
	f.directories()
	f.journalSuperblock()
	f.writeInodes()
	sums := f.bitmaps()
	descriptors := f.descriptors(sums)
	for g := range f.groups {
		if f.hasBackup(g) {
			f.write(descriptors, g*blocksPerGroup+1, 0)
			f.write(f.superblock(g), g*blocksPerGroup, 0)
		}
	}
	f.write(descriptors, 1, 0)
	f.write(f.superblock(0), 0, 1024) // last: before it, there is no filesystem
}

func (f *formatter) write(b []byte, block, offset uint64) {
	if f.err == nil {
		_, f.err = f.w.WriteAt(b, int64(block*blockSize+offset))
	}
}

// Features, struct ext4_super_block in fs/ext4/ext4.h.
const (
	compatHasJournal   = 0x0004
	compatExtAttr      = 0x0008
	compatDirIndex     = 0x0020
	compatSparseSuper2 = 0x0200

	incompatFiletype = 0x0002
	incompatExtents  = 0x0040
	incompat64Bit    = 0x0080
	incompatFlexBG   = 0x0200

	roCompatSparseSuper  = 0x0001
	roCompatLargeFile    = 0x0002
	roCompatHugeFile     = 0x0008
	roCompatGDTCsum      = 0x0010
	roCompatDirNlink     = 0x0020
	roCompatExtraIsize   = 0x0040
	roCompatMetadataCsum = 0x0400
)

// superblock is struct ext4_super_block, of group g.
func (f *formatter) superblock(g uint64) []byte {
	b := make([]byte, 1024)
	inodes := f.groups * f.inodesPerGroup
	now := uint64(f.Time.Unix())
	le.PutUint32(b[0x00:], uint32(inodes))
	le.PutUint32(b[0x04:], uint32(f.blocks))
	le.PutUint32(b[0x150:], uint32(f.blocks>>32))
	free := f.freeBlocks()
	le.PutUint32(b[0x0c:], uint32(free))
	le.PutUint32(b[0x158:], uint32(free>>32))
	le.PutUint32(b[0x10:], uint32(inodes-f.inodes()))
	le.PutUint32(b[0x18:], 2) // log2(blockSize/1024)
	le.PutUint32(b[0x1c:], 2) // the same of a cluster
	le.PutUint32(b[0x20:], blocksPerGroup)
	le.PutUint32(b[0x24:], blocksPerGroup) // clusters
	le.PutUint32(b[0x28:], uint32(f.inodesPerGroup))
	le.PutUint32(b[0x30:], uint32(now))                                                          // written
	le.PutUint16(b[0x36:], 0xffff)                                                               // no limit of mounts between checks
	le.PutUint16(b[0x38:], 0xef53)                                                               // magic
	le.PutUint16(b[0x3a:], 1)                                                                    // clean
	onErrors, compat, roCompat := uint16(1), uint32(compatSparseSuper2), uint32(roCompatGDTCsum) // go on
	if f.Durable {
		onErrors, compat, roCompat = 2, 0, roCompatSparseSuper|roCompatMetadataCsum // read only from then on
	}
	if f.journal > 0 {
		compat |= compatHasJournal
	}
	le.PutUint16(b[0x3c:], onErrors)
	le.PutUint32(b[0x40:], uint32(now)) // checked
	le.PutUint32(b[0x4c:], 1)           // revision with variable inode size
	le.PutUint32(b[0x54:], firstInode)
	le.PutUint16(b[0x58:], inodeSize)
	le.PutUint16(b[0x5a:], uint16(g))
	le.PutUint32(b[0x5c:], compat|compatExtAttr|compatDirIndex)
	le.PutUint32(b[0x60:], incompatFiletype|incompatExtents|incompat64Bit|incompatFlexBG)
	le.PutUint32(b[0x64:], roCompat|roCompatLargeFile|roCompatHugeFile|roCompatDirNlink|roCompatExtraIsize)
	copy(b[0x68:0x78], f.UUID[:])
	copy(b[0x78:0x88], f.Label)
	copy(b[0xec:0xfc], f.UUID[:]) // seed of the directory hash: any 16 bytes
	b[0xfc] = 1                   // half MD4
	le.PutUint16(b[0xfe:], descSize)
	le.PutUint32(b[0x100:], 0x000c)      // default mount options: user_xattr, acl
	le.PutUint32(b[0x108:], uint32(now)) // made
	le.PutUint16(b[0x15c:], 32)          // extra inode bytes, at least
	le.PutUint16(b[0x15e:], 32)          // and wanted
	le.PutUint32(b[0x160:], 1)           // the directory hash is of signed char
	b[0x174] = flexLog
	f.journalFields(b)
	if f.Durable {
		b[0x175] = 1 // checksums are CRC-32C
		le.PutUint32(b[0x3fc:], crc32c(0xffffffff, b[:0x3fc]))
	}
	return b
}

// Flags of a group descriptor.
const (
	inodeUninit = 1 // inode bitmap and table were never written
	blockUninit = 2 // nor was the block bitmap
	inodeZeroed = 4 // the unused part of the inode table reads as zeros
)

// descriptors is the table of struct ext4_group_desc.
func (f *formatter) descriptors(sums bitmapSums) []byte {
	b := make([]byte, f.groups*descSize)
	for g := range f.groups {
		d := b[g*descSize:][:descSize]
		put := func(lo, hi int, v uint64) {
			le.PutUint32(d[lo:], uint32(v))
			le.PutUint32(d[hi:], uint32(v>>32))
		}
		put16 := func(lo, hi int, v uint64) {
			le.PutUint16(d[lo:], uint16(v))
			le.PutUint16(d[hi:], uint16(v>>16))
		}
		put(0x00, 0x20, f.blockBitmap(g))
		put(0x04, 0x24, f.inodeBitmap(g))
		put(0x08, 0x28, f.inodeTable(g))
		put16(0x0c, 0x2c, f.groupBlocks(g)-f.used(g))
		flags, unused := uint16(inodeZeroed), f.inodesPerGroup
		if g == 0 {
			unused -= f.inodes()
			put16(0x10, 0x30, f.dirs)
		} else {
			flags |= inodeUninit
		}
		if !f.writesBlockBitmap(g) {
			flags |= blockUninit
		}
		free := unused
		put16(0x0e, 0x2e, free)
		put16(0x1c, 0x32, unused)
		le.PutUint16(d[0x12:], flags)
		put16(0x18, 0x38, uint64(sums.blocks[g]))
		put16(0x1a, 0x3a, uint64(sums.inodes[g]))
		le.PutUint16(d[0x1e:], f.descriptorSum(uint32(g), d))
	}
	return b
}

// descriptorSum is ext4_group_desc_csum of fs/ext4/super.c: the CRC of the
// UUID, the group's number and the descriptor without the sum, CRC-16 for
// uninit_bg and the lower half of CRC-32C, of a sum that is 0, for
// metadata_csum.
func (f *formatter) descriptorSum(g uint32, d []byte) uint16 {
	if f.Durable {
		sum := crc32c(f.seed, le.AppendUint32(nil, g))
		sum = crc32c(sum, d[:0x1e])
		sum = crc32c(sum, []byte{0, 0})
		return uint16(crc32c(sum, d[0x20:]))
	}
	sum := crc16(0xffff, f.UUID[:])
	sum = crc16(sum, le.AppendUint32(nil, g))
	sum = crc16(sum, d[:0x1e])
	return crc16(sum, d[0x20:])
}

// writesBlockBitmap says whether group g needs its block bitmap written. The
// kernel makes up a bitmap that was not (ext4_init_block_bitmap) from what it
// knows of that group alone, not of others' tables in it.
func (f *formatter) writesBlockBitmap(g uint64) bool {
	return f.flexCount(g) > 0 || g == f.groups-1
}

// bitmapSums are the checksums of the bitmaps that were written, by group.
type bitmapSums struct{ blocks, inodes map[uint64]uint32 }

func (f *formatter) bitmaps() bitmapSums {
	sums := bitmapSums{map[uint64]uint32{}, map[uint64]uint32{}}
	for g := range f.groups {
		if !f.writesBlockBitmap(g) {
			continue
		}
		b := make([]byte, blockSize)
		setBits(b, 0, f.used(g))
		setBits(b, f.groupBlocks(g), blocksPerGroup)
		f.write(b, f.blockBitmap(g), 0)
		if f.Durable {
			sums.blocks[g] = crc32c(f.seed, b)
		}
	}
	b := make([]byte, blockSize)
	setBits(b, 0, f.inodes())
	setBits(b, f.inodesPerGroup, blocksPerGroup)
	f.write(b, f.inodeBitmap(0), 0)
	if f.Durable {
		sums.inodes[0] = crc32c(f.seed, b[:f.inodesPerGroup/8])
	}
	return sums
}

// setBits sets the bits from up to, but not including, to.
func setBits(b []byte, from, to uint64) {
	for ; from < to && from%8 != 0; from++ {
		b[from/8] |= 1 << (from % 8)
	}
	for ; from+8 <= to; from += 8 {
		b[from/8] = 0xff
	}
	for ; from < to; from++ {
		b[from/8] |= 1 << (from % 8)
	}
}
