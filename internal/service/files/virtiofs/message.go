//go:build linux

package virtiofs

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Operations (linux/fuse.h, enum fuse_opcode).
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opSymlink       = 6
	opMknod         = 8
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opRename        = 12
	opLink          = 13
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opRemovexattr   = 24
	opFlush         = 25
	opInit          = 26
	opOpendir       = 27
	opReaddir       = 28
	opReleasedir    = 29
	opFsyncdir      = 30
	opGetlk         = 31
	opSetlk         = 32
	opSetlkw        = 33
	opAccess        = 34
	opCreate        = 35
	opDestroy       = 38
	opBatchForget   = 42
	opFallocate     = 43
	opReaddirplus   = 44
	opRename2       = 45
	opLseek         = 46
	opCopyFileRange = 47
	opSyncfs        = 50
)

const (
	headerSize    = int(unsafe.Sizeof(fuse.InHeader{}))  // struct fuse_in_header
	outHeaderSize = int(unsafe.Sizeof(fuse.OutHeader{})) // struct fuse_out_header
	// maxRequest is the largest request: a write with its header.
	maxRequest = maxWrite + 4096
	// maxAnswer is the largest answer: that of a read, which go-fuse allots a
	// buffer for where the guest's pages do not lie together.
	maxAnswer = maxWrite + 4096
	// ownSize is how much of a request is copied: any fixed part with a name.
	ownSize = 384
	// initSize is what every struct fuse_init_in has: up to flags.
	initSize = headerSize + 16
	// oldestMinor is the version of the protocol, 7.N, from which on a guest is
	// served: that of Linux 4.20, which had no virtiofs yet.
	oldestMinor = 28
)

// structSizes is the size of the fixed part of each request that is served, the
// header included. Those of INIT and RENAME2 are the smallest.
var structSizes = map[uint32]uintptr{
	opLookup:        unsafe.Sizeof(fuse.InHeader{}),
	opForget:        unsafe.Sizeof(fuse.ForgetIn{}),
	opGetattr:       unsafe.Sizeof(fuse.GetAttrIn{}),
	opSetattr:       unsafe.Sizeof(fuse.SetAttrIn{}),
	opReadlink:      unsafe.Sizeof(fuse.InHeader{}),
	opSymlink:       unsafe.Sizeof(fuse.InHeader{}),
	opMknod:         unsafe.Sizeof(fuse.MknodIn{}),
	opMkdir:         unsafe.Sizeof(fuse.MkdirIn{}),
	opUnlink:        unsafe.Sizeof(fuse.InHeader{}),
	opRmdir:         unsafe.Sizeof(fuse.InHeader{}),
	opRename:        unsafe.Sizeof(fuse.InHeader{}) + 8,
	opLink:          unsafe.Sizeof(fuse.LinkIn{}),
	opOpen:          unsafe.Sizeof(fuse.OpenIn{}),
	opRead:          unsafe.Sizeof(fuse.ReadIn{}),
	opWrite:         unsafe.Sizeof(fuse.WriteIn{}),
	opStatfs:        unsafe.Sizeof(fuse.InHeader{}),
	opRelease:       unsafe.Sizeof(fuse.ReleaseIn{}),
	opFsync:         unsafe.Sizeof(fuse.FsyncIn{}),
	opSetxattr:      unsafe.Sizeof(fuse.InHeader{}) + 8, // without SETXATTR_EXT
	opGetxattr:      unsafe.Sizeof(fuse.GetXAttrIn{}),
	opListxattr:     unsafe.Sizeof(fuse.GetXAttrIn{}),
	opRemovexattr:   unsafe.Sizeof(fuse.InHeader{}),
	opFlush:         unsafe.Sizeof(fuse.FlushIn{}),
	opInit:          uintptr(initSize),
	opOpendir:       unsafe.Sizeof(fuse.OpenIn{}),
	opReaddir:       unsafe.Sizeof(fuse.ReadIn{}),
	opReleasedir:    unsafe.Sizeof(fuse.ReleaseIn{}),
	opFsyncdir:      unsafe.Sizeof(fuse.FsyncIn{}),
	opGetlk:         unsafe.Sizeof(fuse.LkIn{}),
	opSetlk:         unsafe.Sizeof(fuse.LkIn{}),
	opSetlkw:        unsafe.Sizeof(fuse.LkIn{}),
	opAccess:        unsafe.Sizeof(fuse.AccessIn{}),
	opCreate:        unsafe.Sizeof(fuse.CreateIn{}),
	opDestroy:       unsafe.Sizeof(fuse.InHeader{}),
	opBatchForget:   unsafe.Sizeof(fuse.InHeader{}) + 8,
	opFallocate:     unsafe.Sizeof(fuse.FallocateIn{}),
	opReaddirplus:   unsafe.Sizeof(fuse.ReadIn{}),
	opRename2:       unsafe.Sizeof(fuse.RenameIn{}),
	opLseek:         unsafe.Sizeof(fuse.LseekIn{}),
	opCopyFileRange: unsafe.Sizeof(fuse.CopyFileRangeIn{}),
	opSyncfs:        unsafe.Sizeof(fuse.InHeader{}) + 8,
}

// A header is what is looked at of a request before go-fuse gets it.
type header struct {
	opcode uint32
	unique uint64
	major  uint32 // of INIT
	minor  uint32
	wants  uint32 // how much a request that reads has room for
}

// copyIn fills p from the beginning of in, and says how much there was.
func copyIn(p []byte, in [][]byte) int {
	n := 0
	for _, b := range in {
		if n += copy(p[n:], b); n == len(p) {
			break
		}
	}
	return n
}

func length(b [][]byte) int {
	n := 0
	for i := range b {
		n += len(b[i])
	}
	return n
}

// own returns a request whose beginning is a copy, so that the guest does not
// change it after it was looked at, and its header. Of a write that is all but
// the data. It reports false where there is not even a header.
func own(in [][]byte) ([][]byte, header, bool) {
	b := make([]byte, ownSize)
	n := copyIn(b, in)
	if n < headerSize {
		return nil, header{}, false
	}
	le := binary.LittleEndian
	h := header{
		opcode: le.Uint32(b[4:]),
		unique: le.Uint64(b[8:]),
		major:  le.Uint32(b[headerSize:]),
		minor:  le.Uint32(b[headerSize+4:]),
	}
	if h.opcode == opWrite {
		n = min(n, int(structSizes[opWrite]))
	}
	switch h.opcode {
	case opRead, opReaddir, opReaddirplus:
		h.wants = le.Uint32(b[headerSize+16:])
	case opGetxattr, opListxattr:
		h.wants = le.Uint32(b[headerSize:])
	}
	rest := make([][]byte, 1, len(in)+1)
	rest[0] = b[:n:n]
	for _, e := range in {
		if n >= len(e) {
			n -= len(e)
			continue
		}
		rest = append(rest, e[n:])
		n = 0
	}
	return rest, h, true
}

// first is the first n bytes of b, or all.
func first(b [][]byte, n int) [][]byte {
	for i, e := range b {
		if len(e) > n {
			b[i] = e[:n]
			return b[:i+1]
		}
		n -= len(e)
	}
	return b
}

// check refuses a request that go-fuse would complain about, or that nothing
// here serves.
func (h *header) check(in [][]byte) syscall.Errno {
	least, served := structSizes[h.opcode]
	if !served {
		return syscall.ENOSYS
	}
	n := length(in)
	if n < int(least) || n > maxRequest || h.wants > maxWrite {
		return syscall.EINVAL
	}
	if h.opcode == opInit && (h.major != 7 || h.minor < oldestMinor) {
		return syscall.EPROTO
	}
	return 0
}

// answer writes an answer that is an error, or 0 and nothing else.
func (h *header) answer(out [][]byte, err syscall.Errno) int {
	var b [outHeaderSize]byte
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(len(b)))
	le.PutUint32(b[4:], uint32(-int32(err)))
	le.PutUint64(b[8:], h.unique)
	if length(out) < len(b) {
		return 0 // it wants no answer
	}
	rest := b[:]
	for _, o := range out {
		if rest = rest[copy(o, rest):]; len(rest) == 0 {
			break
		}
	}
	return len(b)
}
