package rootfs

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// The on-disk format of squashfs 4.0: fs/squashfs/squashfs_fs.h of Linux and
// Documentation/filesystems/squashfs.rst. Little-endian.
const (
	squashMagic     = 0x73717368
	squashSuperSize = 96
	squashZstd      = 6
	squashFlags     = 1<<6 | 1<<7 // duplicates are looked for; there is an export table
	squashMeta      = 8192        // uncompressed bytes of a metadata block
	squashRawMeta   = 1 << 15     // in a metadata block's length: stored as it is
	squashRawBlock  = 1 << 24     // in a data block's length: stored as it is
	squashNone      = 0xffffffff  // no fragment, no attributes

	squashDir      = 1
	squashFileType = 2
	squashSymlink  = 3
	squashBlock    = 4
	squashChar     = 5
	squashFIFO     = 6
	squashExtended = 7 // added to a type: its long form

	squashDirHeader = 12
	squashDirEntry  = 8
	squashDirCount  = 256 // entries under one header
)

func squashType(mode uint32) uint16 {
	switch mode & ModeType {
	case ModeDir:
		return squashDir
	case ModeRegular:
		return squashFileType
	case ModeSymlink:
		return squashSymlink
	case ModeBlock:
		return squashBlock
	case ModeChar:
		return squashChar
	default:
		return squashFIFO
	}
}

// newSquashEncoder returns a zstd encoder for blocks of up to blockSize. The
// kernel's decoder has a window of just one block (zstd_wrapper.c), which
// single-segment frames never exceed.
func newSquashEncoder(blockSize int) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true),
		zstd.WithWindowSize(max(blockSize, squashMeta)))
}

// metaWriter collects a table of compressed metadata blocks.
type metaWriter struct {
	enc *zstd.Encoder
	out []byte
	buf []byte
	tmp []byte
}

// pos returns where the next byte goes: the start of its block among the
// compressed bytes, and its offset in the block.
func (m *metaWriter) pos() (block uint32, offset uint16) {
	return uint32(len(m.out)), uint16(len(m.buf))
}

// ref returns pos as an inode reference.
func (m *metaWriter) ref() uint64 {
	return uint64(len(m.out))<<16 | uint64(len(m.buf))
}

func (m *metaWriter) write(p []byte) {
	for len(p) > 0 {
		n := min(len(p), squashMeta-len(m.buf))
		m.buf = append(m.buf, p[:n]...)
		p = p[n:]
		if len(m.buf) == squashMeta {
			m.flush()
		}
	}
}

func (m *metaWriter) flush() {
	if len(m.buf) == 0 {
		return
	}
	m.tmp = m.enc.EncodeAll(m.buf, m.tmp[:0])
	data, size := m.tmp, uint16(len(m.tmp))
	if len(m.tmp) >= len(m.buf) {
		data, size = m.buf, uint16(len(m.buf))|squashRawMeta
	}
	m.out = binary.LittleEndian.AppendUint16(m.out, size)
	m.out = append(m.out, data...)
	m.buf = m.buf[:0]
}

// finish returns the table.
func (m *metaWriter) finish() []byte {
	m.flush()
	return m.out
}

// indexedTable returns a lookup table as it lies at position at: its metadata
// blocks, then their positions. start is where the positions begin.
func indexedTable(enc *zstd.Encoder, data []byte, at int64) (b []byte, start uint64) {
	m := metaWriter{enc: enc}
	var index []byte
	for len(data) > 0 {
		n := min(len(data), squashMeta)
		index = binary.LittleEndian.AppendUint64(index, uint64(at)+uint64(len(m.out)))
		m.write(data[:n])
		m.flush()
		data = data[n:]
	}
	start = uint64(at) + uint64(len(m.out))
	return append(m.out, index...), start
}
