package rootfs

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDirAsRoot packs what only root can make: a mounted image of everything is
// the directory.
func TestDirAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making owners and devices needs root")
	}
	want := mustApply(t, rich(t))
	at := mount(t, "erofs", writeEROFS(t, want, EROFSOptions{}))
	// A mount point inside is left out.
	warned := ""
	tree := NewTree(Options{Warn: func(s string) { warned += s }})
	defer tree.Close()
	if err := tree.AddDir(context.Background(), at); err != nil {
		t.Fatal(err)
	}
	list(t, want).diff(t, list(t, tree))
	if warned != "" {
		t.Errorf("warned: %s", warned)
	}
	outer := t.TempDir()
	os.Mkdir(filepath.Join(outer, "proc"), 0o555)
	if err := unix.Mount("proc", filepath.Join(outer, "proc"), "proc", 0, ""); err != nil {
		t.Skipf("mount proc: %v", err)
	}
	defer unix.Unmount(filepath.Join(outer, "proc"), 0)
	outerTree := NewTree(Options{Warn: func(s string) { warned += s }})
	defer outerTree.Close()
	if err := outerTree.AddDir(context.Background(), outer); err != nil {
		t.Fatal(err)
	}
	if got := list(t, outerTree).names(); got != "/proc" {
		t.Errorf("the tree has %s", got)
	}
	if !strings.Contains(warned, "is a mount point") {
		t.Errorf("warned: %q", warned)
	}
}
