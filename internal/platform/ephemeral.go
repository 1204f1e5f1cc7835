package platform

import (
	"fmt"
	"math"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"
)

// EphemeralFile returns a sparse file of size bytes that has no name, so that
// nothing is left of it when the last process that has it open ends. It reads
// as zeros. An empty dir means $TMPDIR or, if that is not set, /var/tmp: a
// disk's place is not a filesystem in memory, which /tmp often is.
//
// It is an error if the filesystem does not have size bytes free now; nothing
// is reserved.
func EphemeralFile(dir string, size int64) (*os.File, error) {
	if size <= 0 {
		return nil, fmt.Errorf("the ephemeral disk cannot have %d bytes: give --ephemeral-disk-size a positive size", size)
	}
	if dir == "" {
		dir = ephemeralDir()
	}
	free, err := freeSpace(dir)
	if err != nil {
		return nil, fmt.Errorf("make the ephemeral disk in %s: %w; set TMPDIR to another folder", dir, err)
	}
	if free < uint64(size) {
		return nil, fmt.Errorf("the ephemeral disk may grow to %s, but the filesystem of %s has %s free: make room, choose a smaller --ephemeral-disk-size, or set TMPDIR to a folder with more room",
			humanSize(uint64(size)), dir, humanSize(free))
	}
	f, err := unnamedFile(dir)
	if err != nil {
		return nil, fmt.Errorf("make the ephemeral disk in %s: %w; set TMPDIR to a folder that you can write to", dir, err)
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("give the ephemeral disk in %s its size of %s: %w; choose a smaller --ephemeral-disk-size, or set TMPDIR to a folder of another filesystem",
			dir, humanSize(uint64(size)), err)
	}
	return f, nil
}

func ephemeralDir() string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return dir
	}
	if st, err := os.Stat("/var/tmp"); err == nil && st.IsDir() {
		return "/var/tmp"
	}
	return os.TempDir()
}

// freeSpace is what an unprivileged user may still write to the filesystem of
// dir, in bytes.
func freeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if _, err := retry(func() (int, error) { return 0, unix.Statfs(dir, &st) }); err != nil {
		return 0, err
	}
	hi, lo := bits.Mul64(uint64(st.Bavail), uint64(st.Bsize))
	if hi != 0 {
		return math.MaxUint64, nil
	}
	return lo, nil
}

// createUnlinked is the way without O_TMPFILE.
func createUnlinked(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "bake-ephemeral-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// humanSize writes a size as people read it, with binary units.
func humanSize(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	v, u := float64(n)/1024, 0
	for v >= 1024 && u < len(units)-1 {
		v /= 1024
		u++
	}
	return fmt.Sprintf("%.4g %ciB", v, units[u])
}
