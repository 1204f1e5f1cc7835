//go:build linux

package container

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/agent/reaper"
)

// runcLogLimit bounds what is read of runc's log for its error, in bytes.
const runcLogLimit = 1 << 20

// masterTime bounds the wait for the terminal, which runc sends before it ends.
const masterTime = 10 * time.Second

// A runcCall is one call of `runc run --detach` or `runc exec --detach`, which
// leaves a process of the container to this one.
type runcCall struct {
	runc   string // the executable
	state  string // runc's own directory
	dir    string // for this call's files
	reaper *reaper.Reaper

	// what is started, for errors.
	what string
	// command and what is particular to it, such as "run", "--bundle", "/b".
	command []string
	// streams are the process's, or nil with a terminal.
	streams  []*os.File
	terminal bool
	// socket and files are the process's from [ctrinit.SocketFD] on, except for
	// [ctrinit.ExecutableFD].
	socket *os.File
	files  []*os.File
}

func (r *runcCall) path(name string) string { return filepath.Join(r.dir, name) }

// run returns the number of the process and, in terminal mode, the terminal's
// master.
func (r *runcCall) run(ctx context.Context) (pid int, master *os.File, err error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return 0, nil, fmt.Errorf("open the agent's executable, which is the container's init too: %w", err)
	}
	defer self.Close()

	args := []string{"runc", "--root", r.state, "--log", r.path("runc.log"), "--log-format", "json"}
	args = append(args, r.command...)
	args = append(args, "--detach", "--pid-file", r.path("pid"), "--preserve-fds", strconv.Itoa(2+len(r.files)))
	streams := r.streams
	var console *net.UnixListener
	if r.terminal {
		console, err = net.ListenUnix("unix", &net.UnixAddr{Name: r.path("console"), Net: "unix"})
		if err != nil {
			return 0, nil, fmt.Errorf("listen for the container's terminal: %w", err)
		}
		defer console.Close()
		args = append(args, "--console-socket", r.path("console"))
		null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
		if err != nil {
			return 0, nil, err
		}
		defer null.Close()
		streams = []*os.File{null, null, null}
	}
	runc, err := r.reaper.Start(r.runc, append(args, id), &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/bin"},
		Files: slices.Concat(streams, []*os.File{r.socket, self}, r.files),
	})
	if err != nil {
		return 0, nil, fmt.Errorf("start runc, which is part of the initrd: %w", err)
	}
	select {
	case <-runc.Done():
	case <-ctx.Done():
		_ = runc.Signal(unix.SIGKILL)
		return 0, nil, fmt.Errorf("runc did not start the process in time: %w", context.Cause(ctx))
	}
	if status := runc.Status(); status != 0 {
		return 0, nil, runcError(r.what, r.path("runc.log"), status)
	}
	b, err := os.ReadFile(r.path("pid"))
	if err != nil {
		return 0, nil, fmt.Errorf("read which process runc started: %w", err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil || pid <= 1 {
		return 0, nil, fmt.Errorf("runc says that it started process %.32q", b)
	}
	if console != nil {
		if master, err = receiveMaster(console); err != nil {
			return 0, nil, fmt.Errorf("receive the container's terminal from runc: %w", err)
		}
	}
	return pid, master, nil
}

// receiveMaster takes the terminal's master from the message that runc sent
// (SCM_RIGHTS of unix(7)).
func receiveMaster(l *net.UnixListener) (*os.File, error) {
	deadline := time.Now().Add(masterTime)
	if err := l.SetDeadline(deadline); err != nil {
		return nil, err
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil || len(fds) != 1 {
			continue
		}
		unix.CloseOnExec(fds[0])
		if err := unix.SetNonblock(fds[0], true); err != nil {
			unix.Close(fds[0])
			return nil, err
		}
		return os.NewFile(uintptr(fds[0]), "terminal"), nil
	}
	return nil, fmt.Errorf("the message holds no file descriptor")
}

// runcError makes one sentence of what runc logged last.
func runcError(what, log string, status unix.WaitStatus) error {
	b, err := readAtMost(log, runcLogLimit)
	if err == nil {
		if msg := lastError(b); msg != "" {
			err := fmt.Errorf("start %s: %s", what, msg)
			if strings.HasSuffix(msg, "permission denied") {
				// Such as a working directory that is closed to the user.
				return &Error{Code: 126, Err: err}
			}
			return err
		}
	}
	if status.Signaled() {
		return fmt.Errorf("start %s: runc was killed by signal %d; is the guest out of memory? Give it more with --memory", what, int(status.Signal()))
	}
	return fmt.Errorf("start %s: runc failed with status %d and does not say why", what, status.ExitStatus())
}

// lastError finds the last error in the lines of runc's JSON log.
func lastError(log []byte) string {
	var msg string
	for line := range strings.Lines(string(log)) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			msg = entry.Msg
		}
	}
	for _, prefix := range []string{"runc run failed: ", "runc create failed: ", "exec failed: ", "runc exec failed: ", "unable to start container process: ", "error during container init: "} {
		msg = strings.TrimPrefix(msg, prefix)
	}
	return strings.Join(strings.Fields(msg), " ")
}
