//go:build linux

package test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// guard bounds every wait. It asserts nothing: whatever takes that long hangs.
const guard = 3 * time.Minute

// An output collects what a program writes and lets others wait for it.
type output struct {
	mu    sync.Mutex
	more  *sync.Cond
	data  []byte
	read  int // what was expected already
	ended bool
}

func newOutput() *output {
	o := &output{}
	o.more = sync.NewCond(&o.mu)
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.data = append(o.data, p...)
	o.more.Broadcast()
	return len(p), nil
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.more.Broadcast()
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.data)
}

// expect waits until re matches what came after the last match.
func (o *output) expect(re *regexp.Regexp) error {
	_, err := o.until(re)
	return err
}

// until is expect and returns what came after the last match, to the end of
// this one.
func (o *output) until(re *regexp.Regexp) (string, error) {
	deadline := time.Now().Add(guard)
	alarm := time.AfterFunc(guard, func() { o.more.Broadcast() })
	defer alarm.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if at := re.FindIndex(o.data[o.read:]); at != nil {
			text := string(o.data[o.read : o.read+at[1]])
			o.read += at[1]
			return text, nil
		}
		if o.ended {
			return "", fmt.Errorf("the output ended and %q did not come; after what came before it is:\n%s", re, o.data[o.read:])
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("%q did not come; after what came before the output is:\n%s", re, o.data[o.read:])
		}
		o.more.Wait()
	}
}

// A session is one running program.
type session struct {
	cmd      *exec.Cmd
	out, err *output
	stdin    io.WriteCloser
	ended    chan struct{}
	waitErr  error

	// On a terminal:
	master, slave *os.File
	before        *unix.Termios
	copied        chan struct{}
}

// newSession wraps a command that is not started.
func newSession(cmd *exec.Cmd) *session {
	s := &session{cmd: cmd, out: newOutput(), err: newOutput(), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = s.out, s.err
	// Something that still holds the streams when the program has ended is an
	// error, exec.ErrWaitDelay.
	cmd.WaitDelay = 20 * time.Second
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	return s
}

// start runs it on pipes. Its stdin stays open if keep is set.
func (s *session) start(keep bool) error {
	// A process group of its own, as a shell's job has.
	s.cmd.SysProcAttr.Setpgid = true
	if keep {
		stdin, err := s.cmd.StdinPipe()
		if err != nil {
			return err
		}
		s.stdin = stdin
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go s.wait()
	return nil
}

// startTerminal runs it as the leader of a session whose terminal is new.
func (s *session) startTerminal(rows, cols uint16) error {
	master, slave, err := pty.Open()
	if err != nil {
		return err
	}
	if err := pty.Setsize(master, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		return err
	}
	if s.before, err = unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil {
		return err
	}
	s.master, s.slave, s.stdin = master, slave, master
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr.Setsid, s.cmd.SysProcAttr.Setctty = true, true
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.copied = make(chan struct{})
	go func() {
		// Ends when the master is closed.
		_, _ = io.Copy(s.out, master)
		close(s.copied)
	}()
	go s.wait()
	return nil
}

func (s *session) wait() {
	s.waitErr = s.cmd.Wait()
	if s.master == nil {
		s.out.end()
	} else {
		// The terminal is still open, for the look at its mode; what was written
		// last is on its way.
		time.AfterFunc(5*time.Second, s.out.end)
	}
	s.err.end()
	close(s.ended)
}

// finish waits for the end and says how it was: an exit code or a signal's
// name.
func (s *session) finish() (string, error) {
	select {
	case <-s.ended:
	case <-time.After(guard):
		s.abort()
		return "", fmt.Errorf("it did not end; it said\n%s\n%s", s.out, s.err)
	}
	var exit *exec.ExitError
	if s.waitErr != nil && !errors.As(s.waitErr, &exit) {
		return "", s.waitErr
	}
	status := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return unix.SignalName(status.Signal()), nil
	}
	return fmt.Sprint(status.ExitStatus()), nil
}

// restored says whether the terminal is as it was before.
func (s *session) restored() error {
	after, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	if *after != *s.before {
		return fmt.Errorf("the terminal's mode was %+v and is now %+v", *s.before, *after)
	}
	return nil
}

// closeTerminal collects the last of the output.
func (s *session) closeTerminal() {
	if s.master == nil {
		return
	}
	s.slave.Close()
	// With the last slave closed, reading the master fails once it is empty.
	select {
	case <-s.copied:
	case <-time.After(10 * time.Second):
	}
	s.master.Close()
	s.master = nil
	s.out.end()
}

// abort has a Go program tell what each goroutine does, and ends it.
func (s *session) abort() {
	s.cmd.Process.Signal(unix.SIGABRT)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		s.kill()
	}
}

// kill ends it by force, whatever it does.
func (s *session) kill() {
	s.cmd.Process.Kill()
	<-s.ended
}
