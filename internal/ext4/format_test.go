package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sizes go through every shape of layout: one group that is not full, a last
// group that is too small to keep, a flex group that is not full, many.
var sizes = []int64{
	MinSize, 3 << 20, 16 << 20, 16<<20 + 4095, 100 << 20, 127 << 20, 128 << 20, 128<<20 + 4096, 129 << 20, 200 << 20,
	511 << 20, 512 << 20, 1 << 30, 2 << 30, 2<<30 + 1<<20, 2<<30 + 3<<20, 2<<30 + 64<<20, 3 << 30, 10 << 30, 100 << 30, 1 << 40, 1<<40 + 12345,
}

// formatted makes a sparse file with a filesystem.
func formatted(t *testing.T, size int64, o Options) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := Format(f, size, o); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestFsckFindsItClean(t *testing.T) {
	fsck, err := exec.LookPath("e2fsck")
	if err != nil {
		t.Fatalf("this test needs e2fsck of e2fsprogs: %v", err)
	}
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			name := formatted(t, size, Options{Label: "ephemeral"})
			out, err := exec.Command(fsck, "-fn", name).CombinedOutput()
			if err != nil || strings.Contains(string(out), "? no") {
				t.Errorf("e2fsck -fn: %v\n%s", err, out)
			}
		})
	}
}

// A recorder keeps what was written and fails on overlap.
type recorder struct {
	t     *testing.T
	size  int64
	bytes map[int64]byte
}

func (r *recorder) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > r.size {
		r.t.Errorf("write of %d bytes at %d is outside the disk of %d", len(b), off, r.size)
	}
	for i, c := range b {
		if _, ok := r.bytes[off+int64(i)]; ok {
			r.t.Fatalf("byte %d is written twice", off+int64(i))
		}
		r.bytes[off+int64(i)] = c
	}
	return len(b), nil
}

func TestWritesLittleAndInside(t *testing.T) {
	durable := Options{Durable: true, Dir: "data"}
	for _, tc := range []struct {
		size, limit int64
		o           Options
	}{
		{MinSize, 32 << 10, Options{}},
		{2 << 30, 64 << 10, Options{}},
		{100 << 30, 512 << 10, Options{}},
		{MinDurable, 32 << 10, durable},
		{10 << 30, 128 << 10, durable},
		{100 << 30, 2 << 20, durable},
	} {
		r := &recorder{t: t, size: tc.size, bytes: map[int64]byte{}}
		if err := Format(r, tc.size, tc.o); err != nil {
			t.Fatal(err)
		}
		if n := int64(len(r.bytes)); n > tc.limit {
			t.Errorf("a disk of %d bytes takes %d bytes of writes, more than %d", tc.size, n, tc.limit)
		}
	}
}

func TestSameOptionsSameBytes(t *testing.T) {
	o := Options{UUID: [16]byte{1, 2, 3}, Time: time.Unix(1e9, 5), Label: "x"}
	var out [2]map[int64]byte
	for i := range out {
		r := &recorder{t: t, size: 64 << 20, bytes: map[int64]byte{}}
		if err := Format(r, r.size, o); err != nil {
			t.Fatal(err)
		}
		out[i] = r.bytes
	}
	if len(out[0]) != len(out[1]) {
		t.Fatalf("%d and %d bytes", len(out[0]), len(out[1]))
	}
	for at, b := range out[0] {
		if out[1][at] != b {
			t.Fatalf("byte %d differs", at)
		}
	}
	// The volume's name is at 1024+0x78 by definition.
	if out[0][1024+0x78] != 'x' {
		t.Error("the label is not in the superblock")
	}
}

type failing struct{ after int }

var errFull = errors.New("no space")

func (f *failing) WriteAt(b []byte, _ int64) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestErrors(t *testing.T) {
	discard := &failing{after: 1 << 30}
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"too small", Format(discard, MinSize-1, Options{}), "the size must be from"},
		{"negative", Format(discard, -1, Options{}), "the size must be from"},
		{"too big", Format(discard, MaxSize+1, Options{}), "the size must be from"},
		{"too small for a journal", Format(discard, MinDurable-1, Options{Durable: true}), "the size must be from 8388608"},
		{"directory", Format(discard, 1<<30, Options{Dir: "a/b"}), "name of a directory"},
		{"lost+found", Format(discard, 1<<30, Options{Dir: "lost+found"}), "name of a directory"},
		{"label", Format(discard, 1<<30, Options{Label: strings.Repeat("x", 17)}), "more than 16 bytes"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, tc.err, tc.want)
		}
	}
	for n := range 6 {
		if err := Format(&failing{after: n}, 1<<30, Options{}); !errors.Is(err, errFull) {
			t.Errorf("write %d fails: error %v, want %v", n, err, errFull)
		}
	}
}

func TestSetBits(t *testing.T) {
	for from := uint64(0); from < 32; from++ {
		for to := from; to <= 32; to++ {
			got, want := make([]byte, 4), make([]byte, 4)
			setBits(got, from, to)
			for i := from; i < to; i++ {
				want[i/8] |= 1 << (i % 8)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("setBits(%d, %d) = %x, want %x", from, to, got, want)
			}
		}
	}
}

func TestCRC16(t *testing.T) {
	// CRC-16/ARC's check value, with its start value 0.
	if got := crc16(0, []byte("123456789")); got != 0xbb3d {
		t.Errorf("crc16 = %#x, want 0xbb3d", got)
	}
}

var _ io.WriterAt = (*recorder)(nil)

func BenchmarkFormat(b *testing.B) {
	for _, size := range []int64{16 << 20, 2 << 30, 100 << 30, 1 << 40} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			for b.Loop() {
				f, err := os.CreateTemp(b.TempDir(), "")
				if err != nil {
					b.Fatal(err)
				}
				if err := f.Truncate(size); err != nil {
					b.Fatal(err)
				}
				if err := Format(f, size, Options{}); err != nil {
					b.Fatal(err)
				}
				f.Close()
				os.Remove(f.Name())
			}
		})
	}
}
