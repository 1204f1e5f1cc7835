package payload

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

const (
	// HeaderSize is the number of bytes that Open reads.
	HeaderSize = 4096
	// Align is the alignment of the payload in its carrier and of each part in the payload, in bytes.
	Align = 64 << 10
	// MaxParts is how many parts the header has room for.
	MaxParts = (HeaderSize - tableStart) / entrySize
	// MaxNameLen is the longest name of a part, in bytes.
	MaxNameLen = nameField - 1

	formatVersion = 1
	tableStart    = 72
	entrySize     = nameField + 8 + 8 + sha256.Size
	nameField     = 32
	hashStart     = 32

	// maxTotal keeps every sum of offsets in a carrier far from overflow; it is more than a file system holds.
	maxTotal = 1 << 60
)

// magic opens every payload. As in PNG (RFC 2083 section 12.11) a byte above 127, a CR LF and a ^Z show at
// once a copy that was treated as text.
var magic = [8]byte{0xba, 'K', 'E', 'P', '\r', '\n', 0x1a, '\n'}

var (
	// ErrNoPayload says that a file is no packed app: nothing is embedded in it.
	ErrNoPayload = errors.New("no payload")
	// ErrNewer says that a payload or its manifest has a version that this program does not know.
	ErrNewer = errors.New("this app was made by a newer bake: use that version or a later one")
)

// A Part is one embedded file.
type Part struct {
	Name   string            // [a-z0-9-]{1,31}, unique in its payload
	Offset int64             // bytes from the start of the payload, a multiple of Align
	Size   int64             // bytes
	SHA256 [sha256.Size]byte // of exactly Size bytes
}

// The header, little endian:
//
//	0   magic [8]
//	8   version u32, number of parts u32
//	16  length of the payload u64, a multiple of Align
//	24  zero u64
//	32  SHA-256 of these 4096 bytes, taken with this field zero
//	64  zero u64
//	72  50 entries: name [32] padded with NUL, offset u64, size u64, SHA-256 [32]; unused ones are zero
func encodeHeader(parts []Part, total int64) []byte {
	b := make([]byte, HeaderSize)
	copy(b, magic[:])
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(parts)))
	binary.LittleEndian.PutUint64(b[16:], uint64(total))
	for i, p := range parts {
		e := b[tableStart+i*entrySize:]
		copy(e[:MaxNameLen], p.Name)
		binary.LittleEndian.PutUint64(e[nameField:], uint64(p.Offset))
		binary.LittleEndian.PutUint64(e[nameField+8:], uint64(p.Size))
		copy(e[nameField+16:], p.SHA256[:])
	}
	sum := sha256.Sum256(b)
	copy(b[hashStart:], sum[:])
	return b
}

// decodeHeader checks everything that can be checked without reading on. The parts it returns lie in order within
// total, and total is at most limit.
func decodeHeader(b []byte, limit int64) (parts []Part, total int64, err error) {
	if len(b) != HeaderSize {
		return nil, 0, fmt.Errorf("the payload header is %d bytes long instead of %d", len(b), HeaderSize)
	}
	if !bytes.Equal(b[:len(magic)], magic[:]) {
		return nil, 0, errors.New("the payload does not start with its magic number: the file was altered or cut")
	}
	// The version comes before the hash: a later version may hash otherwise.
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return nil, 0, fmt.Errorf("payload version %d is unknown here (this is version %d): %w", v, formatVersion, ErrNewer)
	}
	zeroed := bytes.Clone(b)
	clear(zeroed[hashStart : hashStart+sha256.Size])
	if sum := sha256.Sum256(zeroed); !bytes.Equal(sum[:], b[hashStart:hashStart+sha256.Size]) {
		return nil, 0, errors.New("the payload header does not match its own hash: the file was altered")
	}
	count := binary.LittleEndian.Uint32(b[12:])
	length := binary.LittleEndian.Uint64(b[16:])
	if count > MaxParts {
		return nil, 0, fmt.Errorf("the payload header announces %d parts; it has room for %d", count, MaxParts)
	}
	if length > math.MaxInt64 || int64(length) > limit {
		return nil, 0, fmt.Errorf("the payload says that it is %d bytes long, but the file holds only %d of them: the file was cut", length, limit)
	}
	table, unused := b[tableStart:tableStart+int(count)*entrySize], b[tableStart+int(count)*entrySize:]
	if !isZero(unused) || !isZero(b[24:hashStart]) || !isZero(b[hashStart+sha256.Size:tableStart]) {
		return nil, 0, errors.New("the payload header has data in fields that this version leaves empty")
	}
	parts = make([]Part, 0, count)
	for ; len(table) > 0; table = table[entrySize:] {
		name, _, _ := bytes.Cut(table[:nameField], []byte{0})
		if !isZero(table[len(name):nameField]) {
			return nil, 0, fmt.Errorf("the name of part %d of the payload is malformed", len(parts)+1)
		}
		offset, size := binary.LittleEndian.Uint64(table[nameField:]), binary.LittleEndian.Uint64(table[nameField+8:])
		if offset > length || size > length-offset {
			return nil, 0, fmt.Errorf("part %q of the payload ends after the payload does", name)
		}
		parts = append(parts, Part{string(name), int64(offset), int64(size), [sha256.Size]byte(table[nameField+16:])})
	}
	want, end, err := layout(parts)
	if err != nil {
		return nil, 0, err
	}
	for i := range parts {
		if parts[i].Offset != want[i] {
			return nil, 0, fmt.Errorf("part %q of the payload is at offset %d, where %d follows from the parts before it", parts[i].Name, parts[i].Offset, want[i])
		}
	}
	if end != int64(length) {
		return nil, 0, fmt.Errorf("the payload says that it is %d bytes long, but its parts make %d", length, end)
	}
	return parts, end, nil
}

// layout says where each part goes and how long the whole is, from names and sizes alone.
func layout(parts []Part) (offsets []int64, total int64, err error) {
	if len(parts) > MaxParts {
		return nil, 0, fmt.Errorf("a payload holds at most %d parts, not %d", MaxParts, len(parts))
	}
	seen := make(map[string]bool, len(parts))
	offsets = make([]int64, len(parts))
	total = Align // the header
	for i, p := range parts {
		if err := checkName(p.Name); err != nil {
			return nil, 0, err
		}
		if seen[p.Name] {
			return nil, 0, fmt.Errorf("the payload has two parts named %q", p.Name)
		}
		seen[p.Name] = true
		if p.Size < 0 || p.Size > maxTotal-total {
			return nil, 0, fmt.Errorf("part %q has an impossible size: %d", p.Name, p.Size)
		}
		offsets[i] = total
		total = alignUp(total+p.Size, Align)
	}
	return offsets, total, nil
}

func checkName(name string) error {
	if len(name) < 1 || len(name) > MaxNameLen {
		return fmt.Errorf("the part name %q is not 1 to %d bytes long", name, MaxNameLen)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("the part name %q has something else in it than a-z, 0-9 and -", name)
		}
	}
	return nil
}

// alignUp rounds n up to a multiple of align, a power of two. The caller knows that n+align does not overflow.
func alignUp(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
