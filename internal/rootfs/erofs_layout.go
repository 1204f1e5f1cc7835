package rootfs

import (
	"context"
	"fmt"
	"math"
	"sort"
)

// erofsNode is where one inode and its data go.
type erofsNode struct {
	n        *Inode
	pos      int64 // byte offset of the inode in the image
	size     int64 // of the data: for a directory, of its entries
	compact  bool
	xattrLen int      // bytes of attributes between the inode and its tail
	shared   []uint32 // indexes into the shared attributes
	inline   []Xattr
	tail     int   // bytes of data that follow the inode
	block    int64 // first block of the rest
	blocks   int64
	borrowed bool      // the blocks are those of an equal file
	chunks   *chunkMap // of a file with holes
}

func (e *erofsNode) inodeSize() int {
	if e.compact {
		return erofsCompactSize
	}
	return erofsExtendedSize
}

func (e *erofsNode) nid() uint64 { return uint64(e.pos / erofsSlot) }

// erofsLayout is the plan of an image; all of it is known before the first
// byte is written, so the writer never seeks:
//
//	superblock | inodes, each with its attributes and tail | shared attributes | directories | files
type erofsLayout struct {
	opts       EROFSOptions
	nodes      []*erofsNode // by inode number
	byPos      []*erofsNode
	shared     []Xattr
	sharedPos  []int64 // byte offset of each from the start of their area
	sharedLen  int64
	sharedAt   int64 // first block of the shared attributes
	blocks     int64 // of the whole image
	metaBlocks int64
	chunked    bool
}

func planEROFS(ctx context.Context, t *Tree, opts EROFSOptions) (*erofsLayout, error) {
	l := &erofsLayout{opts: opts}
	list := t.index()
	dup, err := duplicates(ctx, list, erofsBlock)
	if err != nil {
		return nil, err
	}
	l.shareXattrs(list)
	sharedIndex := make(map[Xattr]uint32, len(l.shared))
	for i, x := range l.shared {
		sharedIndex[x] = uint32(i)
	}
	l.nodes = make([]*erofsNode, len(list))
	alloc := erofsAlloc{next: erofsSuperOffset + erofsSuperSize}
	for i, n := range list {
		e := &erofsNode{n: n, size: n.Size}
		l.nodes[i] = e
		if n.IsDir() {
			e.size = erofsDirSize(n)
		}
		if first := dup[n]; first != nil {
			e.chunks = l.nodes[first.num].chunks
		} else if n.IsRegular() && n.Size >= minHoleFile {
			if e.chunks, err = findHoles(ctx, n); err != nil {
				return nil, err
			}
			l.chunked = l.chunked || e.chunks != nil
		}
		e.place(opts, sharedIndex, &alloc)
	}
	l.metaBlocks = alloc.blocks()
	next := l.metaBlocks
	l.sharedAt = next
	next += (l.sharedLen + erofsBlock - 1) / erofsBlock
	for _, dirs := range []bool{true, false} {
		for _, e := range l.nodes {
			if e.n.IsDir() != dirs || e.blocks == 0 {
				continue
			}
			if first := dup[e.n]; first != nil && l.nodes[first.num].blocks >= e.blocks {
				e.block, e.borrowed = l.nodes[first.num].block, true
				continue
			}
			e.block = next
			next += e.blocks
		}
	}
	if next >= math.MaxUint32 {
		return nil, fmt.Errorf("the image would be larger than the 16 TiB that EROFS holds")
	}
	l.blocks = next
	l.byPos = append([]*erofsNode(nil), l.nodes...)
	sort.Slice(l.byPos, func(i, j int) bool { return l.byPos[i].pos < l.byPos[j].pos })
	return l, nil
}

// shareXattrs picks the attributes that occur more than once (SELinux labels
// do on every file): each is stored once and referred to.
func (l *erofsLayout) shareXattrs(list []*Inode) {
	count := map[Xattr]int{}
	for _, n := range list {
		for _, x := range n.Xattrs {
			if count[x]++; count[x] == 2 {
				l.shared = append(l.shared, x)
				l.sharedPos = append(l.sharedPos, l.sharedLen)
				l.sharedLen += int64(erofsXattrSize(x))
			}
		}
	}
}

// place decides the form of the inode and finds its position.
func (e *erofsNode) place(opts EROFSOptions, shared map[Xattr]uint32, alloc *erofsAlloc) {
	n := e.n
	e.compact = n.Mtime.Unix() == opts.BuildTime && n.Mtime.Nanosecond() == 0 &&
		n.UID <= math.MaxUint16 && n.GID <= math.MaxUint16 && n.nlink <= math.MaxUint16 && e.size <= math.MaxUint32
	for _, x := range n.Xattrs {
		if id, ok := shared[x]; ok && len(e.shared) < math.MaxUint8 {
			e.shared = append(e.shared, id)
		} else {
			e.inline = append(e.inline, x)
			e.xattrLen += erofsXattrSize(x)
		}
	}
	if len(n.Xattrs) > 0 {
		e.xattrLen += erofsXattrHeader + 4*len(e.shared)
	}
	core := e.inodeSize() + e.xattrLen
	switch n.Mode & ModeType {
	case ModeRegular, ModeDir, ModeSymlink:
	default:
		e.pos = alloc.take(core)
		return
	}
	if e.chunks != nil {
		core += 4 * len(e.chunks.present)
		e.blocks = e.chunks.blocks
		e.pos = alloc.take(core)
		return
	}
	e.tail = int(e.size % erofsBlock)
	e.blocks = e.size / erofsBlock
	if e.tail > 0 && core+e.tail > erofsBlock {
		e.tail = 0
		e.blocks++
	}
	if e.tail > 0 {
		// The kernel wants inline data in one block, and a link's target in
		// that of the inode's end (erofs_fill_symlink).
		e.pos = alloc.take(core + e.tail)
		return
	}
	e.pos = alloc.take(core)
}

// erofsAlloc hands out space for inodes. Blocks with space left are kept by
// how much that is, and a new inode goes to the fullest block that takes it:
// tails are up to a block long and would otherwise leave a third unused.
type erofsAlloc struct {
	next int64                           // end of what is handed out
	free [erofsBlock / erofsSlot][]int64 // positions of free space up to a block's end, by slots
}

// take returns the position of size bytes, which lie in one block unless they
// are more than a block.
func (a *erofsAlloc) take(size int) int64 {
	slots := (size + erofsSlot - 1) / erofsSlot
	if size <= erofsBlock {
		for s := slots; s < len(a.free); s++ {
			if l := len(a.free[s]); l > 0 {
				pos := a.free[s][l-1]
				a.free[s] = a.free[s][:l-1]
				a.keep(pos + int64(slots)*erofsSlot)
				return pos
			}
		}
	}
	if rest := a.next % erofsBlock; rest != 0 && int64(size) > erofsBlock-rest {
		a.keep(a.next)
		a.next = (a.next + erofsBlock - 1) / erofsBlock * erofsBlock
	}
	pos := a.next
	end := pos + int64(slots)*erofsSlot
	a.keep(end)
	a.next = (end + erofsBlock - 1) / erofsBlock * erofsBlock
	return pos
}

// keep remembers the space from pos to the end of its block.
func (a *erofsAlloc) keep(pos int64) {
	if rest := pos % erofsBlock; rest != 0 {
		s := (erofsBlock - rest) / erofsSlot
		a.free[s] = append(a.free[s], pos)
	}
}

func (a *erofsAlloc) blocks() int64 { return (a.next + erofsBlock - 1) / erofsBlock }
