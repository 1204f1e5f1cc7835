package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/service/files"
	"bake/internal/wire"
)

// An app in the background is a process of its own session, without a terminal:
// this program once more, with the same arguments. Until its container runs, it
// tells the one that started it how it fares, through a pipe whose descriptor's
// number is in its environment.

// starterEnv holds that number.
const starterEnv = "BAKE_STARTER_FD"

// runEnv has an app with an init script run its VM.
const runEnv = "BAKE_RUN_VM=1"

// A startReport is a frame on the pipe. The end of the pipe without one that is
// Running or Failed says that the process died.
type startReport struct {
	// Text is for the user to read.
	Text []byte `json:"text,omitempty"`
	// Running is the instance's ID: its container runs.
	Running string `json:"running,omitempty"`
	// Failed: it never will. Code is the exit code and Error, unless a signal was
	// the reason, a sentence.
	Failed bool   `json:"failed,omitempty"`
	Code   int    `json:"code,omitempty"`
	Error  string `json:"error,omitempty"`
}

// reportLimit bounds a report, in bytes.
const reportLimit = 1 << 20

// starterPatience is how long a starter that does not read can hold the app up.
const starterPatience = time.Second

// inBackground does what it is told in a process in the background: in this one,
// if it is that already.
func inBackground(ctx context.Context, stdio Stdio, signals <-chan os.Signal, run func(*starter) (int, error)) (int, error) {
	starter, err := takeStarter()
	if err != nil {
		return 0, err
	}
	if starter == nil {
		return detach(ctx, stdio, os.Args, signals)
	}
	code, err := run(starter)
	starter.ended(code, err)
	return code, err
}

// detach starts this program in the background and returns when its container
// runs, with the ID on stdout, or with how it failed. Signals that ask to stop go
// to it meanwhile.
func detach(ctx context.Context, stdio Stdio, argv []string, signals <-chan os.Signal) (int, error) {
	exe, err := files.Self()
	if err != nil {
		return 0, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start in the background: %w", err)
	}
	defer r.Close()
	// By its own number, and not as the first after stderr: that one may be a
	// descriptor of the user's, which the app inherits.
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETFD, 0); err != nil {
		w.Close()
		return 0, fmt.Errorf("start in the background: %w", err)
	}
	cmd := exec.Command(exe)
	cmd.Args = argv
	cmd.Env = append(slices.Clone(stdio.Environ), runEnv, fmt.Sprintf("%s=%d", starterEnv, w.Fd()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, fmt.Errorf("start in the background: %w", err)
	}
	reports := make(chan startReport)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go readReports(reading, r, reports)
	var asked os.Signal
	for {
		select {
		case report, ok := <-reports:
			switch {
			case !ok && asked != nil:
				cmd.Wait()
				return signalCode(asked), nil
			case !ok:
				return 0, failf("the app in the background died before its container ran: %w", endOf(cmd))
			case report.Running != "":
				cmd.Process.Release()
				_, err := fmt.Fprintln(stdio.Stdout, report.Running)
				return 0, err
			case report.Failed:
				cmd.Wait() // so that nothing of it is left when we tell
				if report.Error == "" {
					return report.Code, nil
				}
				return 0, &Error{Code: report.Code, Err: errors.New(report.Error)}
			}
			stdio.Stderr.Write(report.Text)
		case sig := <-signals:
			if asksToStop(sig) {
				asked = sig
				cmd.Process.Signal(sig)
			}
		case <-ctx.Done():
			cmd.Process.Kill()
			cmd.Wait()
			return 0, failf("the run was cancelled: %w", context.Cause(ctx))
		}
	}
}

// readReports ends with the pipe, which ends with the process in the background
// or, when its container runs, with this one.
func readReports(ctx context.Context, r io.Reader, to chan<- startReport) {
	defer close(to)
	for {
		var report startReport
		if err := wire.ReadJSON(r, &report, reportLimit); err != nil {
			return
		}
		select {
		case to <- report:
		case <-ctx.Done():
			return
		}
	}
}

// endOf is how a process ended.
func endOf(cmd *exec.Cmd) error {
	if err := cmd.Wait(); err != nil {
		return err
	}
	return errors.New("it exited without a word")
}

// A starter is the process that waits until the container of this one, which is
// in the background, runs. It is safe for concurrent use.
type starter struct {
	mu   sync.Mutex
	pipe *os.File // nil when there is nothing to tell it any more
}

// takeStarter finds the starter in the environment, and takes it out there. It is
// nil in a process that nobody has put into the background yet.
func takeStarter() (*starter, error) {
	value, ok := os.LookupEnv(starterEnv)
	if !ok {
		return nil, nil
	}
	if err := os.Unsetenv(starterEnv); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(value)
	if err != nil {
		return nil, fmt.Errorf("%s is %.40q, which is for an app to set: unset it", starterEnv, value)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, fmt.Errorf("%s is %d, which is no pipe of a starting app: unset it", starterEnv, fd)
	}
	unix.CloseOnExec(fd)
	// So that writes can have a deadline.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("prepare to tell the starting app: %w", err)
	}
	return &starter{pipe: os.NewFile(uintptr(fd), "starter")}, nil
}

// tell sends a report; after the last one, or one that nobody took, there are no
// more.
func (s *starter) tell(r startReport, last bool) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pipe == nil {
		return
	}
	s.pipe.SetWriteDeadline(time.Now().Add(starterPatience))
	if err := wire.WriteJSON(s.pipe, r, reportLimit); err != nil || last {
		s.pipe.Close()
		s.pipe = nil
	}
}

// Write tells it what the user is to read. It never fails.
func (s *starter) Write(p []byte) (int, error) {
	const most = reportLimit / 2 // in base64
	s.tell(startReport{Text: p[:min(len(p), most)]}, false)
	return len(p), nil
}

// running says that the container runs.
func (s *starter) running(id string) { s.tell(startReport{Running: id}, true) }

// ended says how the run ended, if the container never ran.
func (s *starter) ended(code int, err error) {
	r := startReport{Failed: true, Code: code}
	if err != nil {
		r.Code, r.Error = codeOf(err), strings.ToValidUTF8(Sentence(err), "?")
		r.Error = r.Error[:min(len(r.Error), reportLimit/8)]
	}
	s.tell(r, true)
}
