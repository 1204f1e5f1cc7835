package rootfs

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkPack packs one real root filesystem with every writer and with the
// usual tools, and reports the time and the size of each as a multiple of
// mksquashfs's with zstd. The input is $BAKE_BENCH_ROOTFS, an uncompressed tar;
// $BAKE_BENCH_ROOTFS_DIR is the same unpacked, for the tools.
//
//	BAKE_BENCH_ROOTFS=r.tar BAKE_BENCH_ROOTFS_DIR=r go test -bench Pack -benchtime 3x ./internal/rootfs
func BenchmarkPack(b *testing.B) {
	tarball, dir := os.Getenv("BAKE_BENCH_ROOTFS"), os.Getenv("BAKE_BENCH_ROOTFS_DIR")
	if tarball == "" || dir == "" {
		b.Skip("set BAKE_BENCH_ROOTFS and BAKE_BENCH_ROOTFS_DIR")
	}
	out := filepath.Join(b.TempDir(), "image")
	tool := func(name string, args ...string) func(testing.TB) {
		return func(t testing.TB) {
			if msg, err := exec.Command(name, args...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, msg)
			}
		}
	}
	ours := func(stream bool, write func(context.Context, *os.File, *Tree) (Result, error)) func(testing.TB) {
		return func(t testing.TB) {
			ctx := context.Background()
			in, err := os.Open(tarball)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			tree := NewTree(Options{})
			defer tree.Close()
			var r io.Reader = in
			if stream {
				r = struct{ io.Reader }{in}
			}
			if err := tree.AddLayer(ctx, tarball, r); err != nil {
				t.Fatal(err)
			}
			f, err := os.Create(out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := write(ctx, f, tree); err != nil {
				t.Fatal(err)
			}
		}
	}
	erofs := func(ctx context.Context, f *os.File, t *Tree) (Result, error) {
		return WriteEROFS(ctx, f, t, EROFSOptions{})
	}
	squash := func(ctx context.Context, f *os.File, t *Tree) (Result, error) {
		return WriteSquashFS(ctx, f, t, SquashFSOptions{})
	}
	fromDir := func(write func(context.Context, *os.File, *Tree) (Result, error)) func(testing.TB) {
		return func(t testing.TB) {
			ctx := context.Background()
			tree := NewTree(Options{})
			defer tree.Close()
			if err := tree.AddDir(ctx, dir); err != nil {
				t.Fatal(err)
			}
			f, err := os.Create(out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := write(ctx, f, tree); err != nil {
				t.Fatal(err)
			}
		}
	}
	var baseTime, baseSize float64
	for _, bb := range []struct {
		name string
		run  func(testing.TB)
	}{
		{"mksquashfs-zstd", tool("mksquashfs", dir, out, "-comp", "zstd", "-noappend", "-no-progress", "-quiet")},
		{"mkfs.erofs", tool("mkfs.erofs", out, dir)},
		{"erofs-from-tar", ours(false, erofs)},
		{"erofs-from-stream", ours(true, erofs)},
		{"erofs-from-dir", fromDir(erofs)},
		{"squashfs-from-tar", ours(false, squash)},
		{"squashfs-from-dir", fromDir(squash)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			start := time.Now()
			for range b.N {
				os.Remove(out)
				bb.run(b)
			}
			each := time.Since(start).Seconds() / float64(b.N)
			fi, err := os.Stat(out)
			if err != nil {
				b.Fatal(err)
			}
			if baseTime == 0 {
				baseTime, baseSize = each, float64(fi.Size())
			}
			b.ReportMetric(float64(fi.Size())/1e6, "MB")
			b.ReportMetric(baseTime/each, "x-faster")
			b.ReportMetric(float64(fi.Size())/baseSize, "x-size")
		})
	}
}
