package ninep

import (
	"encoding/binary"

	"bake/internal/service/files/tree"
)

// Types of requests; that of the reply is one more.
const (
	rLerror      = 7
	tStatfs      = 8
	tLopen       = 12
	tLcreate     = 14
	tSymlink     = 16
	tMknod       = 18
	tRename      = 20
	tReadlink    = 22
	tGetattr     = 24
	tSetattr     = 26
	tXattrwalk   = 30
	tXattrcreate = 32
	tReaddir     = 40
	tFsync       = 50
	tLock        = 52
	tGetlock     = 54
	tLink        = 70
	tMkdir       = 72
	tRenameat    = 74
	tUnlinkat    = 76
	tVersion     = 100
	tAuth        = 102
	tAttach      = 104
	tFlush       = 108
	tWalk        = 110
	tRead        = 116
	tWrite       = 118
	tClunk       = 120
	tRemove      = 122
)

const (
	version = "9P2000.L"

	headerSize = 7              // size[4] type[1] tag[2]
	readHeader = headerSize + 4 // of Rread and Rreaddir: count[4]
	ioHeader   = 24             // what the client keeps free of a message for Twrite's fields (P9_IOHDRSZ)
	qidSize    = 13             // type[1] version[4] path[8]
	firstSize  = 8 << 10        // the largest message before Tversion
	minMessage = 4 << 10        // the smallest msize that is agreed to, as in the client
	maxMessage = 1<<20 + 4<<10  // the largest
	smallSize  = 8 << 10        // buffers that every worker has
	maxWalk    = 16             // P9_MAXWELEM
	noFid      = ^uint32(0)
	noUser     = ^uint32(0)
	direntHead = qidSize + 8 + 1 + 2
)

// Types of a qid.
const (
	qidDir     = 0x80
	qidSymlink = 0x02
)

// decoder takes fields off a message. After a field that is not there it
// returns zeros, and ok is false.
type decoder struct {
	b  []byte
	ok bool
}

func decode(b []byte) decoder { return decoder{b, true} }

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.ok, d.b = false, nil
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if p := d.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) str() string { return string(d.take(int(d.u16()))) }

// end says whether the message was whole and had nothing behind it.
func (d *decoder) end() bool { return d.ok && len(d.b) == 0 }

// encoder appends fields to a message.
type encoder struct {
	b       []byte
	version uint32 // of the qids
}

func (e *encoder) u8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

// str appends a string that is known to be short enough.
func (e *encoder) str(s string) {
	e.u16(uint16(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) time(t tree.Timespec) {
	e.u64(uint64(t.Sec))
	e.u64(uint64(t.Nsec))
}

// qid appends the qid of an object by its number and DT_* type.
func (e *encoder) qid(ino uint64, dtype uint8) {
	var t uint8
	switch dtype {
	case dtDir:
		t = qidDir
	case dtLink:
		t = qidSymlink
	}
	e.u8(t)
	e.u32(e.version)
	e.u64(ino)
}

func (e *encoder) attrQid(a *tree.Attr) { e.qid(a.Ino, uint8(a.Mode>>12&15)) }

// DT_* of getdents64(2).
const (
	dtDir  = 4
	dtLink = 10
)

// header fills in the first bytes of a message.
func header(b []byte, kind uint8, tag uint16) {
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	b[4] = kind
	binary.LittleEndian.PutUint16(b[5:], tag)
}
