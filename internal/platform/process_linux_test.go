package platform

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// parentRole starts cmd, says its number, and lives until it is killed.
func parentRole(cmd *exec.Cmd) {
	p, err := StartProcess(cmd)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.Pid())
	p.Wait()
}

func TestChildDiesWithItsKilledParent(t *testing.T) {
	parent, line := helper(t, "parent")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("the parent says %q", line)
	}
	child, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("open the child: %v", err)
	}
	defer unix.Close(child)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// A pidfd is readable once its process has ended.
	fds := []unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}
	n, err := retry(func() (int, error) { return unix.Poll(fds, 30_000) })
	if n != 1 || err != nil {
		unix.PidfdSendSignal(child, unix.SIGKILL, nil, 0)
		t.Errorf("the child lived on: poll = %d, %v", n, err)
	}
}

// The thread that started the child must not end while the child lives. The
// runtime ends a thread whose goroutine ends locked to it, so this makes that
// happen to every other thread.
func TestChildSurvivesTheEndOfThreads(t *testing.T) {
	p, err := StartProcess(exec.Command("sleep", "3600"))
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(done)
		}()
		<-done
	}
	select {
	case <-p.Done():
		t.Fatalf("the child ended: %v", p.Wait())
	case <-time.After(200 * time.Millisecond):
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("Wait = %v, want killed by SIGTERM", err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("a signal to a child that has ended: %v", err)
	}
}

func TestProcessOutputAndStatus(t *testing.T) {
	var out bytes.Buffer
	cmd := exec.Command("sh", "-c", "ulimit -c; echo hello; exit 3")
	cmd.Stdout = &out
	p, err := StartProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var exit *exec.ExitError
		if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("Wait = %v, want exit status 3", err)
		}
	}
	if !strings.HasSuffix(out.String(), "hello\n") {
		t.Errorf("output %q", out.String())
	}
	if _, err := StartProcess(exec.Command("/nonexistent")); err == nil {
		t.Error("a program that does not exist started")
	}
}

func TestNoCoreDump(t *testing.T) {
	p, err := StartProcess(exec.Command("sleep", "3600"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.NoCoreDump(); err != nil {
		t.Error(err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Pid()))
	if err != nil {
		t.Error(err)
	}
	found := false
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(strings.TrimPrefix(line, "Max core file size")); strings.HasPrefix(line, "Max core file size") {
			found = f[0] == "0" && f[1] == "0"
		}
	}
	if !found {
		t.Errorf("core files are allowed:\n%s", limits)
	}
	p.Signal(syscall.SIGKILL)
	p.Wait()
	if err := p.NoCoreDump(); err != nil {
		t.Errorf("after the end: %v", err)
	}
}
