package platform

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemoryFileIsSealedAndAChildReadsIt(t *testing.T) {
	f, err := MemoryFile("", "kernel", strings.NewReader("contents and more"), 8)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); string(b) != "contents" || err != nil {
		t.Errorf("it reads as %q, %v", b, err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v, want EPERM", err)
	}
	for _, size := range []int64{0, 100} {
		if err := f.Truncate(size); !errors.Is(err, unix.EPERM) {
			t.Errorf("truncate to %d: %v, want EPERM", size, err)
		}
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("not close-on-exec: %#x, %v", flags, err)
	}
	for range 2 { // each open has its own offset
		cmd := exec.Command("cat", ChildPath(3))
		cmd.ExtraFiles = []*os.File{f}
		if out, err := cmd.Output(); string(out) != "contents" || err != nil {
			t.Errorf("the child reads %q, %v", out, err)
		}
	}
}

func TestMemoryFileErrors(t *testing.T) {
	if _, err := MemoryFile("", "kernel", strings.NewReader("short"), 6); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a reader that ends early: %v", err)
	}
	if _, err := MemoryFile("", "kernel", strings.NewReader(""), -1); err == nil {
		t.Error("a negative size is no error")
	}
}
