package rootfs

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// idTable numbers user and group ids.
type idTable struct {
	list  []uint32
	index map[uint32]uint16
}

func (t *idTable) id(v uint32) (uint16, error) {
	if i, ok := t.index[v]; ok {
		return i, nil
	}
	if len(t.list) >= math.MaxUint16 {
		return 0, fmt.Errorf("the image has more than %d different owners", math.MaxUint16)
	}
	if t.index == nil {
		t.index = map[uint32]uint16{}
	}
	i := uint16(len(t.list))
	t.index[v] = i
	t.list = append(t.list, v)
	return i, nil
}

func (t *idTable) bytes() []byte {
	b := make([]byte, 0, 4*len(t.list))
	for _, v := range t.list {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// squashFragment is one block of file ends.
type squashFragment struct {
	start int64
	size  uint32 // with squashRawBlock
}

func fragmentTable(list []squashFragment) []byte {
	b := make([]byte, 0, 16*len(list))
	for _, f := range list {
		b = binary.LittleEndian.AppendUint64(b, uint64(f.start))
		b = binary.LittleEndian.AppendUint32(b, f.size)
		b = binary.LittleEndian.AppendUint32(b, 0)
	}
	return b
}

// xattrTable numbers sets of extended attributes; equal sets are stored once.
type xattrTable struct {
	index map[string]uint32
	list  []xattrSet
}

type xattrSet struct {
	data  string // as stored
	count int
}

func (t *xattrTable) len() int { return len(t.list) }

// id returns the number of the set, squashNone for an empty one.
func (t *xattrTable) id(xattrs []Xattr) uint32 {
	var b []byte
	count := 0
	for _, x := range xattrs {
		kind, rest := uint16(0), ""
		switch {
		case strings.HasPrefix(x.Name, "user."):
			kind, rest = 0, x.Name[len("user."):]
		case strings.HasPrefix(x.Name, "trusted."):
			kind, rest = 1, x.Name[len("trusted."):]
		case strings.HasPrefix(x.Name, "security."):
			kind, rest = 2, x.Name[len("security."):]
		default:
			continue // an ACL: squashfs knows no such prefix
		}
		b = binary.LittleEndian.AppendUint16(b, kind)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(rest)))
		b = append(b, rest...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(x.Value)))
		b = append(b, x.Value...)
		count++
	}
	if count == 0 {
		return squashNone
	}
	if i, ok := t.index[string(b)]; ok {
		return i
	}
	if t.index == nil {
		t.index = map[string]uint32{}
	}
	i := uint32(len(t.list))
	set := xattrSet{string(b), count}
	t.index[set.data] = i
	t.list = append(t.list, set)
	return i
}

// bytes returns the attribute tables as they lie at position at; start is that
// of struct squashfs_xattr_id_table.
func (t *xattrTable) bytes(enc *zstd.Encoder, at int64) (b []byte, start uint64) {
	le := binary.LittleEndian
	values := metaWriter{enc: enc}
	ids := make([]byte, 0, 16*len(t.list))
	for _, set := range t.list {
		ids = le.AppendUint64(ids, values.ref())
		ids = le.AppendUint32(ids, uint32(set.count))
		ids = le.AppendUint32(ids, uint32(len(set.data)))
		values.write([]byte(set.data))
	}
	b = values.finish()
	// The header stands between the blocks of the id table and their positions.
	header := make([]byte, 0, 16)
	header = le.AppendUint64(header, uint64(at))
	header = le.AppendUint32(header, uint32(len(t.list)))
	header = le.AppendUint32(header, 0)
	table, index := indexedTable(enc, ids, at+int64(len(b)))
	blocks := int(index) - int(at) - len(b)
	b = append(b, table[:blocks]...)
	start = uint64(at) + uint64(len(b))
	b = append(b, header...)
	return append(b, table[blocks:]...), start
}
