package platform

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Process is a child that the kernel kills (SIGKILL) when this process
// dies, however it dies, kill -9 included.
//
// PR_SET_PDEATHSIG (prctl(2)) speaks of the death of the parent's *thread*.
// The Go runtime ends threads that it no longer needs, so the goroutine that
// starts the child locks its thread and keeps it until the child has ended.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed

	// mu keeps a signal from being sent to a reused process number.
	mu    sync.Mutex
	ended bool
}

// StartProcess starts cmd as such a child. It sets cmd.SysProcAttr.Pdeathsig,
// and the rest of cmd is the caller's; the caller must not call cmd.Wait.
//
// The child must not be set-user-ID or have file capabilities: the kernel
// clears the setting then.
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// The syscall package makes the prctl call in the child and then compares
	// getppid, so a parent that dies in between is noticed too.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	p.waitExited()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.err = p.cmd.Wait()
	close(p.done)
}

// waitExited blocks until the child is a zombie and leaves it one.
func (p *Process) waitExited() {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Pid is the child's process number. It may belong to somebody else once Done
// is closed.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and was reaped, and the goroutines
// that copy its output have ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns when Done is closed: nil for exit status 0, else an
// *exec.ExitError or the error of copying the output. It may be called more
// than once.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends a signal. A child that has ended is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send signal %v to process %d: %w", sig, p.Pid(), err)
	}
	return nil
}

// NoCoreDump keeps the child from leaving a core file, whatever kills it
// (prlimit(2), RLIMIT_CORE).
func (p *Process) NoCoreDump() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err != nil {
		return fmt.Errorf("forbid process %d to dump core: %w", p.Pid(), err)
	}
	return nil
}
