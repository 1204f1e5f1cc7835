package rootfs

import (
	"encoding/binary"
	"sort"
)

// dirNames returns the names of a directory as EROFS stores them: with "." and
// "..", sorted by byte value over all blocks, since lookup searches them by
// halving (fs/erofs/namei.c).
func dirNames(n *Inode) []string {
	names := make([]string, 0, len(n.children)+2)
	names = append(names, ".", "..")
	for name := range n.children {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// packDir calls block for each run of names that fills one directory block;
// used is its bytes. A block is its entries, then their names.
func packDir(names []string, block func(names []string, used int)) {
	used, first := 0, 0
	for i, name := range names {
		need := erofsDirentSize + len(name)
		if used+need > erofsBlock {
			block(names[first:i], used)
			used, first = 0, i
		}
		used += need
	}
	block(names[first:], used)
}

// erofsDirSize returns the bytes of a directory: whole blocks, and what the
// last one uses.
func erofsDirSize(n *Inode) int64 {
	var size, last int64
	packDir(dirNames(n), func(_ []string, used int) {
		size += erofsBlock
		last = int64(used)
	})
	return size - erofsBlock + last
}

// dirData returns the entries of directory n.
func (l *erofsLayout) dirData(n *Inode) []byte {
	var out []byte
	packDir(dirNames(n), func(names []string, _ int) {
		for len(out)%erofsBlock != 0 {
			out = append(out, make([]byte, erofsBlock-len(out)%erofsBlock)...)
		}
		off := len(names) * erofsDirentSize
		for _, name := range names {
			child := n
			switch name {
			case ".":
			case "..":
				child = n.parent
			default:
				child = n.Child(name)
			}
			out = binary.LittleEndian.AppendUint64(out, l.nodes[child.num].nid())
			out = binary.LittleEndian.AppendUint16(out, uint16(off))
			out = append(out, fileType(child.Mode), 0)
			off += len(name)
		}
		for _, name := range names {
			out = append(out, name...)
		}
	})
	return out
}
