//go:build linux

package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"bake/internal/agent/ctrinit"
	"bake/internal/agent/reaper"
	"bake/internal/agent/signals"
	"bake/internal/wire"
)

// id is the container's name for runc; there is one in a guest.
const id = "container"

// tellTime bounds how long the container's init may take to read a request.
const tellTime = 2 * time.Second

// killTime bounds how long the kernel may take to end the processes that a
// finished command left behind.
const killTime = 10 * time.Second

// A Config is a container to start.
type Config struct {
	Layout   Layout
	Hostname string
	Process  wire.Process
	// Volumes are mounted beside what every container has. One that is inside
	// another comes after it.
	Volumes []specs.Mount
	// Runc is the path of the runc executable.
	Runc string
	// Dir is an existing directory for the bundle, sockets and logs.
	Dir string
	// Reaper collects the processes.
	Reaper *reaper.Reaper
	// Stdin, Stdout and Stderr are the command's streams. They are nil when
	// Process.Terminal is set. The caller closes them after Start.
	Stdin, Stdout, Stderr *os.File
}

// An Error says that the command could not be started.
type Error struct {
	// Code is 125, 126 or 127, as docker-run(1) defines them.
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// An Exit is how the command ended.
type Exit struct {
	// Code is the exit code; 128+n when Signal is set.
	Code int
	// Signal is the name of the signal that ended the command, if one did.
	Signal string
	// OutOfMemory says that the kernel ran out of memory and killed it.
	OutOfMemory bool
}

// A Container is a command that was started.
type Container struct {
	// Terminal is the pseudoterminal's master in terminal mode, for the caller
	// to close.
	Terminal *os.File

	cfg     Config
	init    *reaper.Child
	direct  bool // the command replaced the init
	socket  *os.File
	reports chan ctrinit.Report

	calls   chan struct{} // one for each runc that runs beside
	entered chan struct{} // one for each thread in the container
	oom     oomCount
}

// Start runs the command and returns when it runs. The error is an *[Error].
func Start(ctx context.Context, cfg Config) (*Container, error) {
	c, err := start(ctx, cfg)
	var failed *Error
	if err != nil && !errors.As(err, &failed) {
		err = &Error{Code: 125, Err: err}
	}
	return c, err
}

func start(ctx context.Context, cfg Config) (*Container, error) {
	account, err := LookupAccount(cfg.Layout.Rootfs, cfg.Process)
	if err != nil {
		return nil, err
	}
	env, err := environment(cfg.Process, cfg.Hostname, account)
	if err != nil {
		return nil, err
	}
	if err := checkArgs(cfg.Process.Args); err != nil {
		return nil, err
	}
	socket, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c := &Container{
		cfg:     cfg,
		socket:  socket,
		direct:  isInit(cfg.Process.Args),
		calls:   make(chan struct{}, maxCalls),
		entered: make(chan struct{}, maxEntered),
	}
	call, err := c.newRun(account, theirs)
	if err != nil {
		c.socket.Close()
		return nil, err
	}
	pid, master, err := call.run(ctx)
	if err != nil {
		c.socket.Close()
		return nil, err
	}
	theirs.Close() // so that the end of the init is the end of the socket
	c.init = cfg.Reaper.Adopt(pid)
	c.Terminal = master

	if err := c.startCommand(cfg.Process, env); err != nil {
		_ = c.init.Signal(unix.SIGKILL)
		c.socket.Close()
		if master != nil {
			master.Close()
		}
		return nil, err
	}
	return c, nil
}

// newRun prepares the call of runc that makes the container.
func (c *Container) newRun(a Account, socket *os.File) (*runcCall, error) {
	bundle := filepath.Join(c.cfg.Dir, "bundle")
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		return nil, fmt.Errorf("make the container's bundle: %w", err)
	}
	if err := writeJSON(filepath.Join(bundle, "config.json"), newSpec(c.cfg, a)); err != nil {
		return nil, fmt.Errorf("write the container's configuration: %w", err)
	}
	call := c.newCall("the container", c.cfg.Dir, "run", "--bundle", bundle)
	call.streams = []*os.File{c.cfg.Stdin, c.cfg.Stdout, c.cfg.Stderr}
	call.terminal = c.cfg.Process.Terminal
	call.socket = socket
	return call, nil
}

func (c *Container) newCall(what, dir string, command ...string) *runcCall {
	return &runcCall{
		runc: c.cfg.Runc, state: filepath.Join(c.cfg.Dir, "runc"), dir: dir, reaper: c.cfg.Reaper, what: what, command: command,
	}
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

func checkArgs(args []string) error {
	if slices.ContainsFunc(args, func(arg string) bool { return strings.ContainsRune(arg, 0) }) {
		return errors.New("an argument of the command contains a NUL byte, which no argument can")
	}
	return nil
}

// socketpair makes the socket between the agent and an init. The agent's end
// can have deadlines.
func socketpair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = unix.SetNonblock(pair[0], true); err == nil {
			return os.NewFile(uintptr(pair[0]), "init"), os.NewFile(uintptr(pair[1]), "init"), nil
		}
		unix.Close(pair[0])
		unix.Close(pair[1])
	}
	return nil, nil, fmt.Errorf("make the socket to the container's init: %w", err)
}

// startCommand has the init run the command.
func (c *Container) startCommand(p wire.Process, env []string) error {
	err := ctrinit.WriteRequest(c.socket, ctrinit.Request{Start: &ctrinit.Start{
		Args: p.Args, Env: env, Terminal: p.Terminal, Exec: c.direct,
	}})
	if err != nil {
		return fmt.Errorf("tell the container's init what to run: %w", err)
	}
	report, err := ctrinit.ReadReport(c.socket)
	switch {
	case err == nil && report.Type == ctrinit.Failed:
		return &Error{Code: report.Code, Err: errors.New(report.Message)}
	case err == nil && report.Type == ctrinit.Started && !c.direct:
	case c.direct && errors.Is(err, io.EOF):
	case err == nil:
		return fmt.Errorf("the container's init answered %.32q when the command should start", report.Type)
	default:
		return fmt.Errorf("the container's init ended before the command ran: %w", err)
	}
	c.reports = make(chan ctrinit.Report, 1)
	go c.readReports()
	return nil
}

// readReports ends when the init does, or its end of the socket is closed.
func (c *Container) readReports() {
	defer close(c.reports)
	for {
		report, err := ctrinit.ReadReport(c.socket)
		if err != nil {
			return
		}
		if report.Type == ctrinit.Exited {
			c.reports <- report
			return
		}
	}
}

// Signal sends a signal to the command. A command that has ended is no error.
func (c *Container) Signal(sig unix.Signal) error {
	if sig == unix.SIGKILL {
		c.oom.forgive() // what comes now is no shortage of memory
	}
	if c.direct {
		if err := c.init.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		return nil
	}
	err := c.socket.SetWriteDeadline(time.Now().Add(tellTime))
	if err == nil {
		err = ctrinit.WriteRequest(c.socket, ctrinit.Request{Signal: int(sig)})
	}
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, os.ErrClosed):
		return nil
	case err != nil && sig == unix.SIGKILL:
		// The container meddled with its init, which does not help it.
		return c.init.Signal(sig)
	}
	return err
}

// Wait returns when the command has ended and, with it, every other process
// of the container. Call it once.
func (c *Container) Wait() Exit {
	status, reported := unix.WaitStatus(0), false
	if report, ok := <-c.reports; ok {
		status, reported = unix.WaitStatus(report.Status), true
	}
	if !reported {
		// The init was killed or there is none: its own end is the command's.
		status = c.init.Status()
	} else {
		// With PID 1 of a PID namespace the kernel kills all the others, and
		// PID 1's end is not told before theirs.
		select {
		case <-c.init.Done():
		case <-time.After(killTime):
		}
	}
	c.socket.Close()
	exit := exitOf(status)
	if !reported && poweredOff(status) {
		exit = Exit{}
	}
	if exit.Code == 128+int(unix.SIGKILL) {
		exit.OutOfMemory = c.oom.more()
	}
	return exit
}

func exitOf(status unix.WaitStatus) Exit {
	if status.Signaled() {
		return Exit{Code: 128 + int(status.Signal()), Signal: signals.Name(status.Signal())}
	}
	return Exit{Code: status.ExitStatus()}
}

// poweredOff says whether a container's PID 1 was ended by reboot(2) within
// it: that kills it with SIGINT for a halt and SIGHUP for a restart, and
// nothing else does, for it is immune to both without a handler.
func poweredOff(status unix.WaitStatus) bool {
	return status.Signaled() && (status.Signal() == unix.SIGINT || status.Signal() == unix.SIGHUP)
}
