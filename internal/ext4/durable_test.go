package ext4

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// tool runs a program of e2fsprogs and returns what it says.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs %s of e2fsprogs: %v", name, err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestFsckFindsDurableClean(t *testing.T) {
	durable := append([]int64{MinDurable, 8<<20 + 4096, 32 << 20, 64 << 20, 16<<40 - 4096}, sizes...)
	for _, size := range durable {
		if size < MinDurable {
			continue
		}
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			name := formatted(t, size, Options{Label: "data", Durable: true, Dir: "data"})
			if size >= 1<<40 {
				// e2fsck takes gigabytes of memory for the bitmaps; dumpe2fs
				// reads the superblock and all descriptors with their sums.
				if out := tool(t, "dumpe2fs", "-h", name); !strings.Contains(out, "Filesystem state:         clean") {
					t.Errorf("dumpe2fs: %s", out)
				}
				return
			}
			if out := tool(t, "e2fsck", "-fn", name); strings.Contains(out, "? no") {
				t.Errorf("e2fsck -fn: %s", out)
			}
		})
	}
}

func TestDurableIsWhatMke2fsMakes(t *testing.T) {
	const size = 300 << 20
	ours := features(t, formatted(t, size, Options{Durable: true}))
	name := filepath.Join(t.TempDir(), "theirs")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	tool(t, "mke2fs", "-q", "-t", "ext4", "-E", "lazy_journal_init=1", name)
	for _, f := range features(t, name) {
		switch f {
		case "resize_inode", "orphan_file", "metadata_csum_seed":
			continue // the first is left out, the others are newer than some kernels of guests
		}
		if !slices.Contains(ours, f) {
			t.Errorf("mke2fs gives a filesystem the feature %s, Format does not: %v", f, ours)
		}
	}
}

func features(t *testing.T, name string) []string {
	t.Helper()
	for line := range strings.Lines(tool(t, "dumpe2fs", "-h", name)) {
		if list, ok := strings.CutPrefix(line, "Filesystem features:"); ok {
			return strings.Fields(list)
		}
	}
	t.Fatal("dumpe2fs names no features")
	return nil
}

// The superblock, the descriptors and the journal's inode are gone: e2fsck
// finds the copies.
func TestDurableSurvivesTheLossOfItsBeginning(t *testing.T) {
	name := formatted(t, 1<<30, Options{Durable: true, Dir: "data"})
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 2*blockSize), 0); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("e2fsck", "-fy", "-b", "32768", name).CombinedOutput()
	if e, ok := err.(*exec.ExitError); err != nil && (!ok || e.ExitCode() != 1) { // 1: errors corrected
		t.Fatalf("e2fsck -b 32768: %v\n%s", err, out)
	}
	tool(t, "e2fsck", "-fn", name)
	if out := tool(t, "debugfs", "-R", "ls -p /", name); !strings.Contains(out, "/data/") {
		t.Errorf("the directory data is lost: %s", out)
	}
}

func TestDirBelongsToRoot(t *testing.T) {
	name := formatted(t, 64<<20, Options{Durable: true, Dir: "data"})
	// inode, mode, uid, gid, name, size
	if out := tool(t, "debugfs", "-R", "ls -p /", name); !strings.Contains(out, "/12/040755/0/0/data//") {
		t.Errorf("debugfs lists %s", out)
	}
	if out := tool(t, "debugfs", "-R", "ls -p /data", name); strings.Count(out, "\n") < 2 || strings.Contains(out, "lost+found") {
		t.Errorf("debugfs lists %s", out)
	}
}

// The holes that make a large volume cheap.
func TestDurableIsSparse(t *testing.T) {
	name := formatted(t, 10<<30, Options{Durable: true, Dir: "data"})
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > 1<<20 {
		t.Errorf("10 GiB take %d bytes of the host's disk", used)
	}
}
