package ext4

import (
	"crypto/rand"
	"fmt"
	"io"
	"time"
)

const (
	// MinSize and MaxSize bound what [Format] takes, in bytes.
	MinSize = 1 << 20
	MaxSize = 16 << 40

	blockSize      = 4096
	blocksPerGroup = 8 * blockSize // what one block of bitmap describes
	inodeSize      = 256
	inodesPerBlock = blockSize / inodeSize
	// flexGroups is how many groups keep their bitmaps and inode tables
	// together, in the first of them (feature flex_bg).
	flexLog    = 4
	flexGroups = 1 << flexLog
	descSize   = 64 // feature 64bit
	firstInode = 11 // below are the reserved inodes; lost+found gets this one
	rootInode  = 2
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
}

// Format writes an empty ext4 filesystem to the first size bytes of w, which
// must read as zeros. The root directory belongs to root, mode 0755, and holds
// lost+found. What exceeds the last whole block, or is too little for one more
// block group, stays unused.
func Format(w io.WriterAt, size int64, o Options) error {
	if size < MinSize || size > MaxSize {
		return fmt.Errorf("make an ext4 filesystem of %d bytes: the size must be from %d to %d", size, int64(MinSize), int64(MaxSize))
	}
	if len(o.Label) > 16 {
		return fmt.Errorf("make an ext4 filesystem: the label %q has more than 16 bytes", o.Label)
	}
	if o.UUID == ([16]byte{}) {
		rand.Read(o.UUID[:])
		o.UUID[6], o.UUID[8] = o.UUID[6]&0x0f|0x40, o.UUID[8]&0x3f|0x80 // RFC 9562, version 4
	}
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	f := &formatter{w: w, layout: newLayout(uint64(size) / blockSize), Options: o}
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
}

func newLayout(blocks uint64) layout {
	l := layout{inodesPerGroup: 8192} // one for 16 KiB, as mke2fs does
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
// descriptors take.
func (l layout) base(g uint64) uint64 {
	if g == 0 {
		return 1 + l.descBlocks
	}
	return 0
}

// metadata is how many blocks of group g hold metadata, all at its start.
func (l layout) metadata(g uint64) uint64 {
	return l.base(g) + l.flexCount(g)*(2+l.tableBlocks)
}

// used is how many blocks of group g are in use.
func (l layout) used(g uint64) uint64 {
	if g == 0 {
		return l.metadata(0) + 2 // the root directory and lost+found
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

func (l layout) rootBlock() uint64  { return l.metadata(0) }
func (l layout) lostBlock() uint64  { return l.metadata(0) + 1 }
func (l layout) freeBlocks() uint64 { return l.blocks - l.usedBlocks() }
func (l layout) usedBlocks() uint64 {
	n := uint64(0)
	for g := range l.groups {
		n += l.used(g)
	}
	return n
}
