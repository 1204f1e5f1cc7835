//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/agent/ctrinit"
	"bake/internal/agent/reaper"
	"bake/internal/wire"
)

// maxCalls is how many programs are started at once. Each takes two short
// processes of runc, and so memory that may be the container's.
const maxCalls = 4

// An ExecConfig is a program to run beside the container's command. It gets
// what the command has: namespaces, capabilities, limits, cgroup.
type ExecConfig struct {
	// Args is the argument vector.
	Args []string
	// Path is the program where it is not Args[0], as for a login shell.
	Path string
	// Role, if set, runs the agent's own executable in this role in place of a
	// program of the container: see [ctrinit.Main]. Args are the role's then.
	Role string
	// Env is KEY=VALUE, over the environment of the container's command.
	Env []string
	// Cwd is the working directory; empty is that of the container's command.
	Cwd string
	// AnyCwd takes / where Cwd cannot be entered, which is an error otherwise.
	AnyCwd bool
	// User is name or number, with an optional :group, looked up in the
	// container; empty is that of the container's command.
	User string
	// As, unless nil, is who the program runs as, in place of User.
	As *Account
	// Terminal gives the program a pseudoterminal of Rows and Cols characters in
	// place of three streams.
	Terminal   bool
	Rows, Cols uint16
	// SetUp, unless nil, gets the terminal's master before the program runs, and
	// may add to its environment.
	SetUp func(master *os.File) (env []string, err error)
	// Stdin, Stdout and Stderr are the program's streams; nil is /dev/null. They
	// have to block. The caller closes them after Exec.
	Stdin, Stdout, Stderr *os.File
	// Files are open in the program from [ctrinit.FilesFD] on.
	Files []*os.File
}

// An Exec is a program that runs beside the container's command.
type Exec struct {
	// PID is the program's number in the guest, not in the container.
	PID int
	// Terminal is the pseudoterminal's master in terminal mode, for the caller
	// to close.
	Terminal *os.File

	container *Container
	child     *reaper.Child
}

// Exec runs a program in the container and returns when it runs. The error is
// an *[Error]. The program's end does not end the container, but the end of the
// container's command ends the program.
func (c *Container) Exec(ctx context.Context, cfg ExecConfig) (*Exec, error) {
	select {
	case c.calls <- struct{}{}:
		defer func() { <-c.calls }()
	case <-ctx.Done():
		return nil, &Error{Code: 125, Err: fmt.Errorf("wait to start a program in the container: %w", context.Cause(ctx))}
	}
	e, err := c.exec(ctx, cfg)
	var failed *Error
	if err != nil && !errors.As(err, &failed) {
		err = &Error{Code: 125, Err: err}
	}
	return e, err
}

func (c *Container) exec(ctx context.Context, cfg ExecConfig) (_ *Exec, err error) {
	p := c.processFor(cfg)
	var account Account
	if cfg.As != nil {
		account = *cfg.As
	} else if account, err = c.lookup(p); err != nil {
		return nil, err
	}
	env, err := environment(p, c.cfg.Hostname, account)
	if err != nil {
		return nil, err
	}
	if err := checkArgs(cfg.Args); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(c.cfg.Dir, "exec-")
	if err != nil {
		return nil, fmt.Errorf("prepare to start a program in the container: %w", err)
	}
	defer os.RemoveAll(dir)
	socket, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	defer theirs.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()

	spec := process(p, account)
	spec.Cwd = "/" // the init goes there with the user's rights
	file := filepath.Join(dir, "process.json")
	if err := writeJSON(file, spec); err != nil {
		return nil, fmt.Errorf("write what to run in the container: %w", err)
	}
	call := c.newCall("a program in the container", dir, "exec", "--process", file)
	for _, f := range []*os.File{cfg.Stdin, cfg.Stdout, cfg.Stderr} {
		if f == nil {
			f = null
		}
		call.streams = append(call.streams, f)
	}
	call.terminal, call.socket, call.files = cfg.Terminal, theirs, cfg.Files
	pid, master, err := call.run(ctx)
	if err != nil {
		return nil, err
	}
	e := &Exec{PID: pid, Terminal: master, container: c, child: c.cfg.Reaper.Adopt(pid)}
	theirs.Close() // so that the end of the init is the end of the socket
	err = e.start(ctx, socket, cfg, ctrinit.Start{
		Args: cfg.Args, Path: cfg.Path, Role: cfg.Role, Env: env, Dir: p.Cwd, AnyDir: cfg.AnyCwd, Exec: true,
	})
	if err != nil {
		_ = e.Signal(unix.SIGKILL)
		if master != nil {
			master.Close()
		}
		return nil, err
	}
	return e, nil
}

// processFor is the container's command with what is different in cfg.
func (c *Container) processFor(cfg ExecConfig) wire.Process {
	p := c.cfg.Process
	if cfg.User != "" {
		p.User, p.UID, p.GID = cfg.User, nil, nil
	}
	if cfg.Cwd != "" {
		p.Cwd = cfg.Cwd
	}
	if !strings.HasPrefix(p.Cwd, "/") {
		p.Cwd = "/" + p.Cwd
	}
	p.Args = cfg.Args
	p.Env = mergeEnv(p.Env, cfg.Env)
	p.Terminal, p.Rows, p.Cols = cfg.Terminal, cfg.Rows, cfg.Cols
	return p
}

// mergeEnv is base with the variables of over, of which the last of a name
// counts.
func mergeEnv(base, over []string) []string {
	env := slices.Clone(base)
	for _, kv := range over {
		key, _, _ := strings.Cut(kv, "=")
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, key+"=") })
		env = append(env, kv)
	}
	return env
}

// start has the init, which waits for it, become the program.
func (e *Exec) start(ctx context.Context, socket *os.File, cfg ExecConfig, s ctrinit.Start) error {
	// The container can stop its init.
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if cfg.SetUp != nil && e.Terminal != nil {
		env, err := cfg.SetUp(e.Terminal)
		if err != nil {
			return err
		}
		s.Env = mergeEnv(s.Env, env)
	}
	if err := ctrinit.WriteRequest(socket, ctrinit.Request{Start: &s}); err != nil {
		return fmt.Errorf("tell the container's init what to run: %w", err)
	}
	report, err := ctrinit.ReadReport(socket)
	switch {
	case errors.Is(err, io.EOF):
		return nil // the program runs, or has run
	case err == nil && report.Type == ctrinit.Failed:
		return &Error{Code: report.Code, Err: errors.New(report.Message)}
	case err == nil:
		return fmt.Errorf("the container's init answered %.32q when the program should start", report.Type)
	}
	return fmt.Errorf("the container's init did not start the program: %w", err)
}

// Signal sends a signal to the program and those of its children that are in
// its process group. It is os.ErrProcessDone if the program has ended.
func (e *Exec) Signal(sig unix.Signal) error { return e.child.SignalGroup(sig) }

// Done is closed when the program has ended.
func (e *Exec) Done() <-chan struct{} { return e.child.Done() }

// Wait returns when the program has ended; processes that it left behind go
// on. Exit.OutOfMemory is not told.
func (e *Exec) Wait() Exit {
	exit := exitOf(e.child.Status())
	if exit.Code == 128+int(unix.SIGKILL) {
		// If it was the OOM killer, it did not kill the container's command.
		e.container.oom.forgive()
	}
	return exit
}
