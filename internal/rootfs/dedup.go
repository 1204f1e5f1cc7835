package rootfs

import (
	"context"
	"crypto/sha256"
)

// duplicates finds regular files of at least minSize bytes with equal contents
// and maps each but the first, in the order of list, to the first. Only files
// that share their size with another are read.
func duplicates(ctx context.Context, list []*Inode, minSize int64) (map[*Inode]*Inode, error) {
	bySize := map[int64]int{}
	for _, n := range list {
		if n.IsRegular() && n.Size >= minSize {
			bySize[n.Size]++
		}
	}
	type key struct {
		size int64
		sum  [sha256.Size]byte
	}
	first := map[key]*Inode{}
	dup := map[*Inode]*Inode{}
	buf := make([]byte, 256<<10)
	h := sha256.New()
	for _, n := range list {
		if !n.IsRegular() || n.Size < minSize || bySize[n.Size] < 2 {
			continue
		}
		h.Reset()
		if err := hashContent(ctx, h, n, buf); err != nil {
			return nil, err
		}
		k := key{size: n.Size}
		h.Sum(k.sum[:0])
		if f, ok := first[k]; ok {
			dup[n] = f
		} else {
			first[k] = n
		}
	}
	return dup, nil
}
