package ninep

import (
	"os"
	"path/filepath"
	"testing"

	"bake/internal/service/files/tree"
)

const benchIO = 512 << 10 // a request of the kernel's client at msize=524288

func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 64<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	c := mount(b, dir, tree.Options{}, Limits{})
	c.mustWalk(0, 1, "f")
	c.must(tLopen, 1, 0)
	b.SetBytes(benchIO)
	for i := 0; b.Loop(); i++ {
		if _, err := c.pread(1, uint64(i%128)*benchIO, benchIO); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	c := mount(b, b.TempDir(), tree.Options{}, Limits{})
	c.create(1, "f", oRdwr, 0o644)
	data := make([]byte, benchIO)
	b.SetBytes(benchIO)
	for i := 0; b.Loop(); i++ {
		if _, err := c.write(1, uint64(i%128)*benchIO, data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStat is what the client does for stat(2) of a path it knows not:
// walk, getattr, clunk.
func BenchmarkStat(b *testing.B) {
	dir := b.TempDir()
	write(b, filepath.Join(dir, "f"), "")
	c := mount(b, dir, tree.Options{}, Limits{})
	b.ReportAllocs()
	for b.Loop() {
		c.mustWalk(0, 1, "f")
		c.mustStat(1)
		c.must(tClunk, 1)
	}
}
