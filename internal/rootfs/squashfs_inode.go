package rootfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
)

// writeDir writes the inodes beneath directory n, its entries, and its own
// inode: entries hold references to inodes, so what is below comes first.
func (s *squash) writeDir(ctx context.Context, n *Inode) error {
	names := n.Names()
	for _, name := range names {
		if child := n.children[name].node; child.IsDir() {
			if err := s.writeDir(ctx, child); err != nil {
				return err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, name := range names {
		if child := n.children[name].node; !child.IsDir() {
			if err := s.writeInode(child); err != nil {
				return err
			}
		}
	}
	d := s.writeEntries(n, names)
	return s.writeDirInode(n, d)
}

// squashDirData is where the entries of a directory are.
type squashDirData struct {
	block  uint32
	offset uint16
	size   int64
	index  []byte // entries of struct squashfs_dir_index
	count  int    // of them
}

// writeEntries writes the entries of n. Entries whose inodes lie in one
// metadata block share a header; so that lookup can skip, each metadata block
// of the directory but the first starts one, and the index points to it.
func (s *squash) writeEntries(n *Inode, names []string) squashDirData {
	le := binary.LittleEndian
	var d squashDirData
	d.block, d.offset = s.dirs.pos()
	indexed := int64(0)
	for i := 0; i < len(names); {
		base := n.children[names[i]].node
		ref := s.refs[base.num]
		at := int64(d.offset) + d.size
		if at/squashMeta > indexed && d.count < math.MaxUint16 {
			indexed = at / squashMeta
			block, _ := s.dirs.pos()
			d.index = le.AppendUint32(d.index, uint32(d.size))
			d.index = le.AppendUint32(d.index, block)
			d.index = le.AppendUint32(d.index, uint32(len(names[i])-1))
			d.index = append(d.index, names[i]...)
			d.count++
		}
		run := i
		size := int64(squashDirHeader)
		for ; run < len(names) && run-i < squashDirCount; run++ {
			child := n.children[names[run]].node
			delta := int64(child.num) - int64(base.num)
			if s.refs[child.num]>>16 != ref>>16 || delta > math.MaxInt16 || delta < math.MinInt16 {
				break
			}
			if run > i && (at+size)/squashMeta > at/squashMeta {
				break
			}
			size += squashDirEntry + int64(len(names[run]))
		}
		b := le.AppendUint32(nil, uint32(run-i-1))
		b = le.AppendUint32(b, uint32(ref>>16))
		b = le.AppendUint32(b, base.num+1)
		for ; i < run; i++ {
			child := n.children[names[i]].node
			b = le.AppendUint16(b, uint16(s.refs[child.num]))
			b = le.AppendUint16(b, uint16(int16(int64(child.num)-int64(base.num))))
			b = le.AppendUint16(b, squashType(child.Mode))
			b = le.AppendUint16(b, uint16(len(names[i])-1))
			b = append(b, names[i]...)
		}
		s.dirs.write(b)
		d.size += int64(len(b))
	}
	return d
}

// base returns what every inode begins with.
func (s *squash) base(n *Inode, kind uint16) ([]byte, error) {
	uid, err := s.ids.id(n.UID)
	if err != nil {
		return nil, err
	}
	gid, err := s.ids.id(n.GID)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	b := le.AppendUint16(make([]byte, 0, 64), kind)
	b = le.AppendUint16(b, uint16(n.Mode&ModePerm))
	b = le.AppendUint16(b, uid)
	b = le.AppendUint16(b, gid)
	b = le.AppendUint32(b, clampTime(n.Mtime.Unix()))
	return le.AppendUint32(b, n.num+1), nil
}

func (s *squash) xattrID(n *Inode) uint32 {
	for _, x := range n.Xattrs {
		if x.Name == aclAccess || x.Name == aclDefault {
			s.aclsDropped++
		}
	}
	return s.xattrs.id(n.Xattrs)
}

func (s *squash) writeDirInode(n *Inode, d squashDirData) error {
	le := binary.LittleEndian
	if d.size > math.MaxUint32-3 {
		return fmt.Errorf("a directory of %d entries is too large for squashfs", len(n.children))
	}
	s.refs[n.num] = s.inodes.ref()
	// The kernel counts "." and ".." as three bytes that aren't there.
	size := uint32(d.size + 3)
	parent := n.parent.num + 1
	if n == s.t.root {
		parent = uint32(len(s.list)) + 1
	}
	xattr := s.xattrID(n)
	if xattr == squashNone && size <= math.MaxUint16 && d.count == 0 {
		b, err := s.base(n, squashDir)
		if err != nil {
			return err
		}
		b = le.AppendUint32(b, d.block)
		b = le.AppendUint32(b, n.nlink)
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint16(b, d.offset)
		b = le.AppendUint32(b, parent)
		s.inodes.write(b)
		return nil
	}
	b, err := s.base(n, squashDir+squashExtended)
	if err != nil {
		return err
	}
	b = le.AppendUint32(b, n.nlink)
	b = le.AppendUint32(b, size)
	b = le.AppendUint32(b, d.block)
	b = le.AppendUint32(b, parent)
	b = le.AppendUint16(b, uint16(d.count))
	b = le.AppendUint16(b, d.offset)
	b = le.AppendUint32(b, xattr)
	s.inodes.write(append(b, d.index...))
	return nil
}

// writeInode writes the inode of anything but a directory, once.
func (s *squash) writeInode(n *Inode) error {
	if s.written[n.num] {
		return nil
	}
	s.written[n.num] = true
	s.refs[n.num] = s.inodes.ref()
	if n.IsRegular() {
		return s.writeFileInode(n)
	}
	le := binary.LittleEndian
	xattr := s.xattrID(n)
	kind := squashType(n.Mode)
	if xattr != squashNone {
		kind += squashExtended
	}
	b, err := s.base(n, kind)
	if err != nil {
		return err
	}
	b = le.AppendUint32(b, n.nlink)
	switch n.Mode & ModeType {
	case ModeSymlink:
		b = le.AppendUint32(b, uint32(len(n.Target)))
		b = append(b, n.Target...)
	case ModeBlock, ModeChar:
		b = le.AppendUint32(b, encodeDevice(n.Major, n.Minor))
	}
	if xattr != squashNone {
		b = le.AppendUint32(b, xattr)
	}
	s.inodes.write(b)
	return nil
}

func (s *squash) writeFileInode(n *Inode) error {
	le := binary.LittleEndian
	f := s.files[n]
	xattr := s.xattrID(n)
	kind := uint16(squashFileType)
	long := xattr != squashNone || n.nlink > 1 || n.Size > math.MaxUint32 || f.start > math.MaxUint32 || f.sparse > 0
	if long {
		kind += squashExtended
	}
	b, err := s.base(n, kind)
	if err != nil {
		return err
	}
	if long {
		b = le.AppendUint64(b, uint64(f.start))
		b = le.AppendUint64(b, uint64(n.Size))
		b = le.AppendUint64(b, uint64(f.sparse))
		b = le.AppendUint32(b, n.nlink)
		b = le.AppendUint32(b, f.fragment)
		b = le.AppendUint32(b, f.offset)
		b = le.AppendUint32(b, xattr)
	} else {
		b = le.AppendUint32(b, uint32(f.start))
		b = le.AppendUint32(b, f.fragment)
		b = le.AppendUint32(b, f.offset)
		b = le.AppendUint32(b, uint32(n.Size))
	}
	for _, size := range f.blocks {
		b = le.AppendUint32(b, size)
	}
	s.inodes.write(b)
	return nil
}
