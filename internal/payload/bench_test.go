package payload

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// zeros is a source of a size that costs no time to make.
func zeros(size int64, known bool) Source {
	s := Source{Name: PartRootfs, Size: size, Open: func() (io.ReadCloser, error) { return os.Open("/dev/zero") }}
	if known {
		s.SHA256[0] = 1
	}
	return s
}

// BenchmarkOpenFile shows that an app opens in the same time whatever its size.
func BenchmarkOpenFile(b *testing.B) {
	carrier := openCarrier(b, goCarrier(b, "amd64"))
	for _, mib := range []int64{1, 256} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "app")
			if err := Create(b.Context(), path, carrier, []Source{zeros(mib<<20, true)}); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				app, err := OpenFile(path)
				if err != nil {
					b.Fatal(err)
				}
				app.Close()
			}
		})
	}
}

// BenchmarkCreate builds an app from a file of 64 MiB, with its hash known and not; copying the file alone is
// the floor.
func BenchmarkCreate(b *testing.B) {
	const size = 64 << 20
	dir := b.TempDir()
	path := filepath.Join(dir, "rootfs")
	if err := os.WriteFile(path, noise(1, size), 0o600); err != nil {
		b.Fatal(err)
	}
	carrier := openCarrier(b, goCarrier(b, "amd64"))
	unknown, err := FileSource(PartRootfs, path)
	if err != nil {
		b.Fatal(err)
	}
	known := unknown
	known.SHA256[0] = 1
	for name, build := range map[string]func(dst string) error{
		"hash known":   func(dst string) error { return Create(b.Context(), dst, carrier, []Source{known}) },
		"hash unknown": func(dst string) error { return Create(b.Context(), dst, carrier, []Source{unknown}) },
		"cp": func(dst string) error {
			return ReplaceFile(dst, 0o755, func(f *os.File) error { return copyAt(f, 0, mustOpen(b, path), 0, size) })
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if err := build(filepath.Join(dir, "app")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func mustOpen(b *testing.B, path string) *os.File {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f
}
