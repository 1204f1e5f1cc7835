package files

import (
	"os/exec"
	"syscall"

	"bake/internal/platform"
)

// startProcess starts cmd in a process group of its own: Ctrl-C on the terminal
// is the app's, and the guest still writes while it ends.
func startProcess(cmd *exec.Cmd) (process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := platform.StartProcess(cmd)
	if err != nil {
		return nil, err
	}
	return killable{p}, nil
}

type killable struct{ *platform.Process }

func (k killable) Kill() error { return k.Signal(syscall.SIGKILL) }

// Self is the running program for Start: the file itself, whatever has become
// of its name.
func Self() (string, error) { return "/proc/self/exe", nil }
