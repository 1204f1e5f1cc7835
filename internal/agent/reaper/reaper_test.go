//go:build linux

package reaper

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newReaper makes this process one that orphans come to. Its children are the
// reaper's alone, so these tests use no os/exec.
func newReaper(t *testing.T) *Reaper {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	r := New()
	t.Cleanup(r.Stop)
	return r
}

// shell runs a script and returns what it prints, once all is printed.
func shell(t *testing.T, r *Reaper, script string) (*Child, string) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c, err := r.Start("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{Files: []*os.File{nil, in, os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	b, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	return c, strings.TrimSpace(string(b))
}

func TestStatusIsExact(t *testing.T) {
	r := newReaper(t)
	for script, want := range map[string]unix.WaitStatus{
		"exit 0": 0, "exit 3": 3 << 8, "exit 255": 255 << 8,
		"kill -TERM $$": unix.WaitStatus(unix.SIGTERM), "kill -KILL $$": unix.WaitStatus(unix.SIGKILL),
	} {
		c, _ := shell(t, r, script)
		if got := c.Status(); got != want {
			t.Errorf("%s: status %#x, want %#x", script, got, want)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	r := newReaper(t)
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			c, err := r.Start("/bin/sh", []string{"sh", "-c", "exit " + strconv.Itoa(i)}, new(os.ProcAttr))
			if err != nil {
				t.Error(err)
				return
			}
			if got := c.Status().ExitStatus(); got != i {
				t.Errorf("exit %d came back as %d", i, got)
			}
		})
	}
	all.Wait()
}

// An orphan's result waits for whoever asks for it, and its number is told by
// somebody else.
func TestAdopt(t *testing.T) {
	r := newReaper(t)
	c, out := shell(t, r, "(sleep 0.1; exit 7) >/dev/null & echo $!")
	pid, err := strconv.Atoi(out)
	if err != nil {
		t.Fatal(err)
	}
	early := r.Adopt(pid) // probably before its end
	c.Status()
	if got := early.Status().ExitStatus(); got != 7 {
		t.Errorf("the orphan ended with %d", got)
	}
	if r.Adopt(pid) == early {
		t.Error("a number that may be used again leads to the old process")
	}

	// A result that is there already.
	c, out = shell(t, r, "(sleep 0.1; exit 9) >/dev/null & echo $!")
	if pid, err = strconv.Atoi(out); err != nil {
		t.Fatal(err)
	}
	c.Status()
	for there := false; !there; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		_, there = r.ended[pid]
		r.mu.Unlock()
	}
	if got := r.Adopt(pid).Status().ExitStatus(); got != 9 {
		t.Errorf("the orphan ended with %d", got)
	}
}

func TestForgetsTheOldest(t *testing.T) {
	r := &Reaper{waiting: map[int]*Child{}, ended: map[int]unix.WaitStatus{}}
	for pid := range 2 * keep {
		r.remember(pid+1, unix.WaitStatus(pid+1))
	}
	if len(r.ended) != keep || len(r.order) != keep {
		t.Fatalf("%d results are kept, in an order of %d", len(r.ended), len(r.order))
	}
	if got := r.Adopt(2 * keep).Status(); got != 2*keep {
		t.Errorf("the newest is %d", got)
	}
	if len(r.ended) != keep-1 || len(r.order) != keep-1 {
		t.Errorf("%d results are kept after one was taken, in an order of %d", len(r.ended), len(r.order))
	}
}

func TestSignal(t *testing.T) {
	r := newReaper(t)
	c, err := r.Start("/bin/sleep", []string{"sleep", "1000"}, new(os.ProcAttr))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := c.Status(); !got.Signaled() || got.Signal() != unix.SIGINT {
		t.Errorf("status %#x", got)
	}
	if err := c.Signal(unix.SIGINT); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal to a process that ended is %v", err)
	}
}

func TestStartFails(t *testing.T) {
	r := newReaper(t)
	if _, err := r.Start("/no/such", []string{"x"}, new(os.ProcAttr)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing program is %v", err)
	}
}
