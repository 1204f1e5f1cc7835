package files

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// A child is a process that ends when its control socket does: macOS has no
// parent-death signal.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// startProcess starts cmd in a process group of its own: Ctrl-C on the terminal
// is the app's, and the guest still writes while it ends.
func startProcess(cmd *exec.Cmd) (process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = cmd.Wait()
	}()
	return c, nil
}

func (c *child) Done() <-chan struct{} { return c.done }
func (c *child) Kill() error           { return c.cmd.Process.Kill() }
func (c *child) Wait() error {
	<-c.done
	return c.err
}

// Self is the running program for Start.
func Self() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's own file: %w", err)
	}
	return exe, nil
}
