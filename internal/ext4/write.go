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
}

func (f *formatter) format() {
	f.directories()
	f.inodes()
	f.bitmaps()
	f.descriptors()
	f.superblock() // last: before it, there is no filesystem
}

func (f *formatter) write(b []byte, block, offset uint64) {
	if f.err == nil {
		_, f.err = f.w.WriteAt(b, int64(block*blockSize+offset))
	}
}

// Features, struct ext4_super_block in fs/ext4/ext4.h.
const (
	compatExtAttr      = 0x0008
	compatDirIndex     = 0x0020
	compatSparseSuper2 = 0x0200

	incompatFiletype = 0x0002
	incompatExtents  = 0x0040
	incompat64Bit    = 0x0080
	incompatFlexBG   = 0x0200

	roCompatLargeFile  = 0x0002
	roCompatHugeFile   = 0x0008
	roCompatGDTCsum    = 0x0010
	roCompatDirNlink   = 0x0020
	roCompatExtraIsize = 0x0040
)

// superblock writes struct ext4_super_block.
func (f *formatter) superblock() {
	b := make([]byte, 1024)
	inodes := f.groups * f.inodesPerGroup
	now := uint64(f.Time.Unix())
	le.PutUint32(b[0x00:], uint32(inodes))
	le.PutUint32(b[0x04:], uint32(f.blocks))
	le.PutUint32(b[0x150:], uint32(f.blocks>>32))
	free := f.freeBlocks()
	le.PutUint32(b[0x0c:], uint32(free))
	le.PutUint32(b[0x158:], uint32(free>>32))
	le.PutUint32(b[0x10:], uint32(inodes-firstInode))
	le.PutUint32(b[0x18:], 2) // log2(blockSize/1024)
	le.PutUint32(b[0x1c:], 2) // the same of a cluster
	le.PutUint32(b[0x20:], blocksPerGroup)
	le.PutUint32(b[0x24:], blocksPerGroup) // clusters
	le.PutUint32(b[0x28:], uint32(f.inodesPerGroup))
	le.PutUint32(b[0x30:], uint32(now)) // written
	le.PutUint16(b[0x36:], 0xffff)      // no limit of mounts between checks
	le.PutUint16(b[0x38:], 0xef53)      // magic
	le.PutUint16(b[0x3a:], 1)           // clean
	le.PutUint16(b[0x3c:], 1)           // on errors, go on
	le.PutUint32(b[0x40:], uint32(now)) // checked
	le.PutUint32(b[0x4c:], 1)           // revision with variable inode size
	le.PutUint32(b[0x54:], firstInode)
	le.PutUint16(b[0x58:], inodeSize)
	le.PutUint32(b[0x5c:], compatExtAttr|compatDirIndex|compatSparseSuper2)
	le.PutUint32(b[0x60:], incompatFiletype|incompatExtents|incompat64Bit|incompatFlexBG)
	le.PutUint32(b[0x64:], roCompatLargeFile|roCompatHugeFile|roCompatGDTCsum|roCompatDirNlink|roCompatExtraIsize)
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
	f.write(b, 0, 1024)
}

// Flags of a group descriptor.
const (
	inodeUninit = 1 // inode bitmap and table were never written
	blockUninit = 2 // nor was the block bitmap
	inodeZeroed = 4 // the unused part of the inode table reads as zeros
)

// descriptors writes the table of struct ext4_group_desc.
func (f *formatter) descriptors() {
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
			unused -= firstInode
			put16(0x10, 0x30, 2) // directories
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
		le.PutUint16(d[0x1e:], f.descriptorSum(uint32(g), d))
	}
	f.write(b, 1, 0)
}

// descriptorSum is ext4_group_desc_csum of fs/ext4/super.c for uninit_bg: the
// CRC-16 of the UUID, the group's number and the descriptor without the sum.
func (f *formatter) descriptorSum(g uint32, d []byte) uint16 {
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

func (f *formatter) bitmaps() {
	for g := range f.groups {
		if !f.writesBlockBitmap(g) {
			continue
		}
		b := make([]byte, blockSize)
		setBits(b, 0, f.used(g))
		setBits(b, f.groupBlocks(g), blocksPerGroup)
		f.write(b, f.blockBitmap(g), 0)
	}
	b := make([]byte, blockSize)
	setBits(b, 0, firstInode)
	setBits(b, f.inodesPerGroup, blocksPerGroup)
	f.write(b, f.inodeBitmap(0), 0)
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

func (f *formatter) inodes() {
	f.inode(rootInode, 0o755, 3, f.rootBlock())
	f.inode(firstInode, 0o700, 2, f.lostBlock())
}

// inode writes struct ext4_inode of a directory of one block.
func (f *formatter) inode(number uint64, perm, links uint16, block uint64) {
	b := make([]byte, inodeSize)
	le.PutUint16(b[0x00:], 0o040000|perm)
	le.PutUint32(b[0x04:], blockSize)
	sec := uint64(f.Time.Unix())
	extra := uint32(f.Time.Nanosecond())<<2 | uint32(sec>>32)&3
	for _, at := range []int{0x08, 0x0c, 0x10, 0x90} { // access, change, modification, birth
		le.PutUint32(b[at:], uint32(sec))
	}
	for _, at := range []int{0x84, 0x88, 0x8c, 0x94} {
		le.PutUint32(b[at:], extra)
	}
	le.PutUint16(b[0x1a:], links)
	le.PutUint32(b[0x1c:], blockSize/512)
	le.PutUint32(b[0x20:], 0x80000) // uses extents
	e := b[0x28:]                   // struct ext4_extent_header and one ext4_extent
	le.PutUint16(e[0:], 0xf30a)
	le.PutUint16(e[2:], 1) // entries
	le.PutUint16(e[4:], 4) // of at most
	le.PutUint16(e[16:], 1)
	le.PutUint16(e[18:], uint16(block>>32))
	le.PutUint32(e[20:], uint32(block))
	le.PutUint16(b[0x80:], 32) // extra bytes in use
	f.write(b, f.inodeTable(0), (number-1)*inodeSize)
}

func (f *formatter) directories() {
	type entry struct {
		inode uint32
		name  string
	}
	for _, d := range []struct {
		block   uint64
		entries []entry
	}{
		{f.rootBlock(), []entry{{rootInode, "."}, {rootInode, ".."}, {firstInode, "lost+found"}}},
		{f.lostBlock(), []entry{{firstInode, "."}, {rootInode, ".."}}},
	} {
		b := make([]byte, blockSize) // of struct ext4_dir_entry_2
		at := 0
		for i, e := range d.entries {
			length := (8 + len(e.name) + 3) &^ 3
			if i == len(d.entries)-1 {
				length = blockSize - at
			}
			le.PutUint32(b[at:], e.inode)
			le.PutUint16(b[at+4:], uint16(length))
			b[at+6] = byte(len(e.name))
			b[at+7] = 2 // directory
			copy(b[at+8:], e.name)
			at += length
		}
		f.write(b, d.block, 0)
	}
}
