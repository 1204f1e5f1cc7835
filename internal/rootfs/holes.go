package rootfs

import (
	"context"
	"math/bits"
)

const (
	minHoleFile = 16 << 20 // a smaller file is not searched for holes
	minChunk    = 64 << 10
	maxChunks   = 1 << 16
)

// chunkMap says which chunks of a file have any byte that is not zero.
type chunkMap struct {
	bits    int // a chunk is 1<<bits EROFS blocks
	present []bool
	blocks  int64 // that are stored
}

func (m *chunkMap) chunk() int64 { return erofsBlock << m.bits }

// findHoles returns the map of n if leaving out runs of zeros looks worthwhile,
// else nil: chunked files need Linux 5.15 and are read less smoothly, so they
// are for files that are mostly nothing, as a /var/log/lastlog is.
func findHoles(ctx context.Context, n *Inode) (*chunkMap, error) {
	var o opener
	defer o.close()
	ra, off, err := o.open(n)
	if err != nil {
		return nil, err
	}
	m := &chunkMap{bits: bits.Len(minChunk/erofsBlock) - 1}
	for n.Size/m.chunk() >= maxChunks {
		m.bits++
	}
	chunks := (n.Size + m.chunk() - 1) / m.chunk()
	buf := make([]byte, minChunk)
	zeroAt := func(pos, size int64) (bool, error) {
		for end := pos + size; pos < end; pos += minChunk {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			p := buf[:min(minChunk, end-pos)]
			if err := readFull(ra, p, off+pos); err != nil {
				return false, err
			}
			if !isZero(p) {
				return false, nil
			}
		}
		return true, nil
	}
	// A look at a few places spares most files the whole pass.
	const looks = 16
	found := 0
	for i := int64(0); i < looks; i++ {
		zero, err := zeroAt(n.Size/looks*i, minChunk)
		if err != nil {
			return nil, err
		}
		if zero {
			found++
		}
	}
	if found < looks/4 {
		return nil, nil
	}
	for i := int64(0); i < chunks; i++ {
		size := min(m.chunk(), n.Size-i*m.chunk())
		zero, err := zeroAt(i*m.chunk(), size)
		if err != nil {
			return nil, err
		}
		m.present = append(m.present, !zero)
		if !zero {
			m.blocks += (size + erofsBlock - 1) / erofsBlock
		}
	}
	return m, nil
}
