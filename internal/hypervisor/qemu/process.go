//go:build linux

package qemu

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const killSignal = syscall.SIGKILL

// newCommand is QEMU's command, in a process group of its own, so that Ctrl-C
// on the terminal is not QEMU's to take.
func newCommand(command, env, args []string) *exec.Cmd {
	cmd := exec.Command(command[0], append(append([]string{}, command[1:]...), args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A reader of the console that blocks cannot keep a dead VM from ending.
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// A tail keeps the last bytes that were written to it.
type tail struct {
	limit int

	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	if n > t.limit {
		b = b[n-t.limit:]
	}
	if over := len(t.buf) + len(b) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	t.buf = append(t.buf, b...)
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// because is what was written, on one line, to stand behind a message.
func (t *tail) because() string { return t.clause(-1) }

// firstLine is because of the first line alone: what follows is where in
// QEMU's source.
func (t *tail) firstLine() string { return t.clause(1) }

func (t *tail) clause(most int) string {
	var lines []string
	for line := range strings.Lines(t.String()) {
		line = strings.TrimSpace(line)
		// QEMU begins lines with its own name, and some with a word for it.
		if name, rest, ok := strings.Cut(line, ": "); ok && strings.Contains(name, "qemu") && !strings.Contains(name, " ") {
			line = strings.TrimPrefix(rest, "error: ")
		}
		if line != "" && len(lines) != most {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines, "; ")
}
