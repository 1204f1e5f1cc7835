package ext4

// lostFound is where e2fsck(8) puts what it finds.
const lostFound = "lost+found"

// A file is an inode with its contents in one extent.
type file struct {
	number uint32
	mode   uint16
	links  uint16
	block  uint64
	blocks uint64
}

func (f *formatter) writeInodes() {
	const dir = 0o040000
	f.inode(file{rootInode, dir | 0o755, uint16(1 + f.dirs), f.dirBlock(0), 1})
	f.inode(file{firstInode, dir | 0o700, 2, f.dirBlock(1), 1})
	if f.Dir != "" {
		f.inode(file{dirInode, dir | 0o755, 2, f.dirBlock(2), 1})
	}
	if f.journal > 0 {
		f.inode(f.journalFile())
	}
}

func (f *formatter) journalFile() file {
	return file{journalInode, 0o100600, 1, f.journalBlock(), f.journal}
}

// inode writes struct ext4_inode.
func (f *formatter) inode(i file) {
	b := make([]byte, inodeSize)
	le.PutUint16(b[0x00:], i.mode)
	le.PutUint32(b[0x04:], uint32(i.blocks*blockSize))
	sec := uint64(f.Time.Unix())
	extra := uint32(f.Time.Nanosecond())<<2 | uint32(sec>>32)&3
	for _, at := range []int{0x08, 0x0c, 0x10, 0x90} { // access, change, modification, birth
		le.PutUint32(b[at:], uint32(sec))
	}
	for _, at := range []int{0x84, 0x88, 0x8c, 0x94} {
		le.PutUint32(b[at:], extra)
	}
	le.PutUint16(b[0x1a:], i.links)
	le.PutUint32(b[0x1c:], uint32(i.blocks*(blockSize/512)))
	le.PutUint32(b[0x20:], 0x80000) // uses extents
	copy(b[0x28:], i.extents())
	le.PutUint16(b[0x80:], 32) // extra bytes in use
	if f.Durable {             // ext4_inode_csum of fs/ext4/inode.c
		sum := crc32c(f.inodeSeed(i.number), b)
		le.PutUint16(b[0x7c:], uint16(sum))
		le.PutUint16(b[0x82:], uint16(sum>>16))
	}
	f.write(b, f.inodeTable(0), uint64(i.number-1)*inodeSize)
}

// inodeSeed is what the checksums of an inode and of its directory begin with:
// those of its number and its generation, which is 0.
func (f *formatter) inodeSeed(number uint32) uint32 {
	return crc32c(crc32c(f.seed, le.AppendUint32(nil, number)), make([]byte, 4))
}

// extents is i_block: struct ext4_extent_header and one ext4_extent.
func (i file) extents() []byte {
	e := make([]byte, 60)
	le.PutUint16(e[0:], 0xf30a)
	le.PutUint16(e[2:], 1) // entries
	le.PutUint16(e[4:], 4) // of at most
	le.PutUint16(e[16:], uint16(i.blocks))
	le.PutUint16(e[18:], uint16(i.block>>32))
	le.PutUint32(e[20:], uint32(i.block))
	return e
}

// dirTail is what struct ext4_dir_entry_tail takes of a directory's block.
const dirTail = 12

func (f *formatter) directories() {
	type entry struct {
		inode uint32
		name  string
	}
	root := []entry{{rootInode, "."}, {rootInode, ".."}, {firstInode, lostFound}}
	all := [][]entry{nil, {{firstInode, "."}, {rootInode, ".."}}}
	if f.Dir != "" {
		root = append(root, entry{dirInode, f.Dir})
		all = append(all, []entry{{dirInode, "."}, {rootInode, ".."}})
	}
	all[0] = root
	for i, entries := range all {
		b := make([]byte, blockSize) // of struct ext4_dir_entry_2
		end := blockSize
		if f.Durable {
			end -= dirTail
		}
		at := 0
		for i, e := range entries {
			length := (8 + len(e.name) + 3) &^ 3
			if i == len(entries)-1 {
				length = end - at
			}
			le.PutUint32(b[at:], e.inode)
			le.PutUint16(b[at+4:], uint16(length))
			b[at+6] = byte(len(e.name))
			b[at+7] = 2 // directory
			copy(b[at+8:], e.name)
			at += length
		}
		if f.Durable {
			le.PutUint16(b[end+4:], dirTail)
			b[end+7] = 0xde
			le.PutUint32(b[end+8:], crc32c(f.inodeSeed(entries[0].inode), b[:end]))
		}
		f.write(b, f.dirBlock(uint64(i)), 0)
	}
}
