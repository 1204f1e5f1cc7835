package ext4

import (
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// MinSize and MaxSize bound what [Format] takes, in bytes, and MinDurable
	// what it makes durable.
	MinSize    = 1 << 20
	MinDurable = 8 << 20
	MaxSize    = 16 << 40

	blockSize      = 4096
	blocksPerGroup = 8 * blockSize // what one block of bitmap describes
	inodeSize      = 256
	inodesPerBlock = blockSize / inodeSize
	// flexGroups is how many groups keep their bitmaps and inode tables
	// together, in the first of them (feature flex_bg).
	flexLog    = 4
	flexGroups = 1 << flexLog
	descSize   = 64 // feature 64bit
	rootInode  = 2
	// journalInode is reserved, as all below firstInode are. lost+found gets
	// that one, and Options.Dir the next.
	journalInode = 8
	firstInode   = 11
	dirInode     = 12
	// minFree is how many free blocks a last group must offer to be worth its
	// existence; mke2fs takes 50 too.
	minFree = 50
)

// Options of [Format]. The zero value is good.
type Options struct {
	// Label is the volume's name, at most 16 bytes.
	Label string
	// UUID identifies the filesystem; zero means random.
	UUID [16]byte
	// Time is when the filesystem was made; zero means now.
	Time time.Time
	// Durable gives the filesystem what it needs to outlive its VM, and the end
	// of that at any moment: see the package's documentation.
	Durable bool
	// Dir, if not empty, is the name of an empty directory in the root
	// directory, mode 0755.
	Dir string
}

// check says what is wrong with size and o.
func (o *Options) check(size int64) error {
	least := int64(MinSize)
	if o.Durable {
		least = MinDurable
	}
	switch {
	case size < least || size > MaxSize:
		return fmt.Errorf("make an ext4 filesystem of %d bytes: the size must be from %d to %d", size, least, int64(MaxSize))
	case len(o.Label) > 16:
		return fmt.Errorf("make an ext4 filesystem: the label %q has more than 16 bytes", o.Label)
	case len(o.Dir) > 255 || strings.ContainsAny(o.Dir, "/\x00") || o.Dir == "." || o.Dir == ".." || o.Dir == lostFound:
		return fmt.Errorf("make an ext4 filesystem: %q cannot be the name of a directory in it", o.Dir)
	}
	return nil
}

// Format writes an empty ext4 filesystem to the first size bytes of w, which
// must read as zeros. The root directory belongs to root, mode 0755, and holds
// lost+found. What exceeds the last whole block, or is too little for one more
// block group, stays unused.
func Format(w io.WriterAt, size int64, o Options) error {
	if err := o.check(size); err != nil {
		return err
	}
	if o.UUID == ([16]byte{}) {
		rand.Read(o.UUID[:])
		o.UUID[6], o.UUID[8] = o.UUID[6]&0x0f|0x40, o.UUID[8]&0x3f|0x80 // RFC 9562, version 4
	}
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	f := &formatter{w: w, layout: newLayout(uint64(size)/blockSize, o), Options: o}
	f.seed = crc32c(0xffffffff, o.UUID[:])
	f.format()
	if f.err != nil {
		return fmt.Errorf("make an ext4 filesystem: %w", f.err)
	}
	return nil
}

// A layout says where everything goes. Block and group numbers count from 0.
type layout struct {
	blocks         uint64
	groups         uint64
	inodesPerGroup uint64
	tableBlocks    uint64 // of one group's inode table
	descBlocks     uint64 // of the group descriptors
	dirs           uint64 // directories, a block each
	journal        uint64 // blocks
	backups        bool   // of the superblock and the group descriptors
}

func newLayout(blocks uint64, o Options) layout {
	l := layout{inodesPerGroup: 8192, dirs: 2} // an inode for 16 KiB, as mke2fs does
	if o.Dir != "" {
		l.dirs++
	}
	if o.Durable {
		l.backups, l.journal = true, journalBlocks(blocks)
	}
	if blocks*blockSize < 512<<20 {
		l.inodesPerGroup = 32768 // small disks: one for 4 KiB
	}
	if blocks < blocksPerGroup { // a single group that is not full
		l.inodesPerGroup = max(blocks*l.inodesPerGroup/blocksPerGroup, 64)
		l.inodesPerGroup -= l.inodesPerGroup % (8 * inodesPerBlock) // whole bytes of bitmap, whole blocks of table
		l.inodesPerGroup = max(l.inodesPerGroup, 8*inodesPerBlock)
	}
	l.tableBlocks = l.inodesPerGroup / inodesPerBlock
	for {
		l.blocks = blocks
		l.groups = (blocks + blocksPerGroup - 1) / blocksPerGroup
		l.descBlocks = (l.groups*descSize + blockSize - 1) / blockSize
		last := l.groups - 1
		if last == 0 || l.groupBlocks(last) >= l.metadata(last)+minFree {
			return l
		}
		blocks = last * blocksPerGroup // leave the last group out
	}
}

// groupBlocks is how many blocks group g has.
func (l layout) groupBlocks(g uint64) uint64 {
	return min(blocksPerGroup, l.blocks-g*blocksPerGroup)
}

// flexCount is how many groups keep their bitmaps and tables in group g.
func (l layout) flexCount(g uint64) uint64 {
	if g%flexGroups != 0 {
		return 0
	}
	return min(flexGroups, l.groups-g)
}

// base is how many blocks at the start of group g the superblock and the
// descriptors, or their backups, take.
func (l layout) base(g uint64) uint64 {
	if g == 0 || l.hasBackup(g) {
		return 1 + l.descBlocks
	}
	return 0
}

// hasBackup says whether group g begins with a backup (feature sparse_super):
// group 1 and the powers of 3, 5 and 7.
func (l layout) hasBackup(g uint64) bool {
	if !l.backups || g == 0 {
		return false
	}
	for _, base := range []uint64{3, 5, 7} {
		n := uint64(1)
		for n < g {
			n *= base
		}
		if n == g {
			return true
		}
	}
	return false
}

// metadata is how many blocks at the start of group g have a fixed place.
func (l layout) metadata(g uint64) uint64 {
	return l.base(g) + l.flexCount(g)*(2+l.tableBlocks)
}

// used is how many blocks of group g are in use.
func (l layout) used(g uint64) uint64 {
	if g == 0 {
		return l.metadata(0) + l.dirs + l.journal
	}
	return l.metadata(g)
}

// blockBitmap, inodeBitmap and inodeTable are the places of group g's.
func (l layout) blockBitmap(g uint64) uint64 { return l.flexStart(g) + g%flexGroups }
func (l layout) inodeBitmap(g uint64) uint64 {
	first := g - g%flexGroups
	return l.flexStart(g) + l.flexCount(first) + g%flexGroups
}
func (l layout) inodeTable(g uint64) uint64 {
	first := g - g%flexGroups
	return l.flexStart(g) + 2*l.flexCount(first) + g%flexGroups*l.tableBlocks
}
func (l layout) flexStart(g uint64) uint64 {
	first := g - g%flexGroups
	return first*blocksPerGroup + l.base(first)
}

// dirBlock is the block of the directory number i: the root, lost+found, the
// one that was asked for.
func (l layout) dirBlock(i uint64) uint64 { return l.metadata(0) + i }

// journalBlock is the journal's first block. It fits in group 0: the longest
// has 16384 of the 32768 blocks there, and the tables of a flex group and the
// descriptors of 16 TiB have 10272.
func (l layout) journalBlock() uint64 { return l.metadata(0) + l.dirs }

// inodes is how many inodes are in use, all from the first on.
func (l layout) inodes() uint64 { return firstInode + l.dirs - 2 }

func (l layout) freeBlocks() uint64 { return l.blocks - l.usedBlocks() }
func (l layout) usedBlocks() uint64 {
	n := uint64(0)
	for g := range l.groups {
		n += l.used(g)
	}
	return n
}
