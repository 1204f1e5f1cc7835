//go:build linux

package ctrinit

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"bake/internal/agent/reaper"
	"bake/internal/wire"
)

// Roles runs a part of the agent in the container by its name and returns its
// exit code. Its environment, working directory and streams are those of the
// process, and its descriptors begin with [FilesFD].
type Roles func(role string, args []string) int

// Main is the init. It returns its exit code, which repeats the command's as a
// shell would; the agent goes by the report.
func Main(roles Roles) int {
	unix.Close(ExecutableFD)
	unix.CloseOnExec(SocketFD)
	socket := os.NewFile(SocketFD, "agent")
	nameProcess("bake-init")

	var req Request
	if err := wire.ReadJSON(socket, &req, limit); err != nil || req.Start == nil {
		return fail(socket, 125, fmt.Sprintf("the container's init got no command from the agent: %v", err))
	}
	if failure := changeDir(req.Start); failure != nil {
		return fail(socket, failure.code, failure.message)
	}
	if req.Start.Role != "" {
		return become(socket, req.Start, roles)
	}
	return run(socket, req.Start)
}

func changeDir(s *Start) *failure {
	if s.Dir == "" {
		return nil
	}
	err := os.Chdir(s.Dir)
	if err != nil && s.AnyDir {
		err = os.Chdir("/")
	}
	if err != nil {
		return notExecutable("the working directory %q cannot be entered: %v", s.Dir, errnoOf(err))
	}
	return nil
}

// become is Start.Exec for a part of the agent.
func become(socket io.Closer, s *Start, roles Roles) int {
	os.Clearenv()
	for _, kv := range s.Env {
		key, value, _ := strings.Cut(kv, "=")
		// What execve(2) takes and this does not, nobody can ask for.
		_ = os.Setenv(key, value)
	}
	nameProcess("bake-" + s.Role)
	socket.Close() // which says that the role runs
	return roles(s.Role, s.Args)
}

func fail(socket io.Writer, code int, message string) int {
	// If the agent is gone, so is the guest.
	_ = wire.WriteJSON(socket, Report{Type: Failed, Code: code, Message: message}, limit)
	return code
}

func run(socket *os.File, s *Start) int {
	path, failure := find(s)
	if failure != nil {
		return fail(socket, failure.code, failure.message)
	}
	if s.Exec {
		err := syscall.Exec(path, s.Args, s.Env)
		failure := cannotRun(cmp.Or(s.Path, s.Args[0]), path, err)
		return fail(socket, failure.code, failure.message)
	}

	attr := &os.ProcAttr{
		Env:   s.Env,
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if s.Terminal {
		if err := releaseTerminal(); err != nil {
			return fail(socket, 125, fmt.Sprintf("hand the terminal over to the command: %v", err))
		}
		attr.Sys.Setctty = true
	}
	fromInside := make(chan os.Signal, 64)
	signal.Notify(fromInside)
	children := reaper.New()
	command, err := children.Start(path, s.Args, attr)
	if err != nil {
		failure := cannotRun(cmp.Or(s.Path, s.Args[0]), path, err)
		return fail(socket, failure.code, failure.message)
	}
	if err := releaseStreams(); err != nil {
		_ = command.Signal(unix.SIGKILL)
		return fail(socket, 125, err.Error())
	}
	_ = wire.WriteJSON(socket, Report{Type: Started}, limit)

	go forwardRequests(socket, command)
	for {
		select {
		case sig := <-fromInside:
			forward(sig, command)
		case <-command.Done():
			status := command.Status()
			_ = wire.WriteJSON(socket, Report{Type: Exited, Status: uint32(status)}, limit)
			if status.Signaled() {
				return 128 + int(status.Signal())
			}
			return status.ExitStatus()
		}
	}
}

// forwardRequests passes the agent's signals on. It ends with the process: the
// agent keeps its end of the socket open until then.
func forwardRequests(socket io.Reader, command *reaper.Child) {
	for {
		var req Request
		if err := wire.ReadJSON(socket, &req, limit); err != nil {
			return
		}
		if req.Signal > 0 {
			// The command may have ended in the meantime.
			_ = command.Signal(unix.Signal(req.Signal))
		}
	}
}

// forward passes on what a process of the container sent to PID 1, which is
// how `kill 1` stops a container from within.
func forward(sig os.Signal, command *reaper.Child) {
	n, ok := sig.(unix.Signal)
	if !ok {
		return
	}
	switch n {
	case unix.SIGCHLD, unix.SIGPIPE, unix.SIGPROF, unix.SIGURG:
		// These concern this process: SIGURG is how Go's scheduler
		// interrupts its own threads.
		return
	}
	_ = command.Signal(n)
}

// releaseTerminal gives up the controlling terminal that the runtime gave to
// this session, so that the command's session can have it. The kernel sends
// SIGHUP and SIGCONT to the terminal's foreground group for it
// (ioctl_tty(2), TIOCNOTTY), which is this process.
func releaseTerminal() error {
	signal.Ignore(unix.SIGHUP)
	defer signal.Reset(unix.SIGHUP)
	return unix.IoctlSetInt(0, unix.TIOCNOTTY, 0)
}

// releaseStreams lets go of the container's streams, so that they end when the
// command closes them.
func releaseStreams() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null in the container: %w", err)
	}
	defer unix.Close(null)
	for fd := range 3 {
		if err := unix.Dup3(null, fd, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("let go of the container's streams: %w", err)
		}
	}
	return nil
}
