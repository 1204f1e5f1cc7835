//go:build linux

package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/agent/container"
	"bake/internal/agent/health"
	"bake/internal/wire"
)

// watchHealth tests the container, if the manifest asks for that, until ctx
// ends, and tells the host. It returns how to wait for its end.
func (a *agent) watchHealth(ctx context.Context, c *container.Container) (wait func()) {
	if a.manifest.Health == nil {
		return func() {}
	}
	run := func(ctx context.Context, args []string, output io.Writer) (int, error) {
		return runTest(ctx, c, args, output)
	}
	report := func(state, message string) {
		a.log.verbose("the container is %s", state)
		if err := a.control.Load().send(wire.GuestMessage{Type: wire.GuestHealth, Health: state, Message: message}); err != nil {
			a.log.always("%v", err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.protect(func() error { return health.Watch(ctx, *a.manifest.Health, run, report) }); err != nil {
			a.warn("the container's health is not tested: %v", err)
		}
	}()
	return func() { <-done }
}

// runTest runs a health test in the container, for [health.Runner].
func runTest(ctx context.Context, c *container.Container, args []string, output io.Writer) (int, error) {
	theirs, ours, err := outputPipe()
	if err != nil {
		return 0, err
	}
	defer ours.Close()
	test, err := c.Exec(ctx, container.ExecConfig{Args: args, Stdout: theirs, Stderr: theirs})
	theirs.Close()
	if err != nil {
		return 0, err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(output, ours)
	}()
	select {
	case <-test.Done():
	case <-ctx.Done():
		_ = test.Signal(unix.SIGKILL) // it may have ended just now
	}
	exit := test.Wait()
	// What it left behind may hold the pipe for ever; the test's own output is
	// in it by now.
	_ = ours.SetReadDeadline(time.Now().Add(leftBehind))
	<-copied
	return exit.Code, nil
}

// leftBehind is how long a test that has ended is still listened to.
const leftBehind = time.Second

// outputPipe makes a pipe whose end for a program blocks.
func outputPipe() (theirs, ours *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe for a health test: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "pipe")
	if err := unix.SetNonblock(fds[0], true); err != nil { // for the deadline
		unix.Close(fds[0])
		theirs.Close()
		return nil, nil, fmt.Errorf("make a pipe for a health test: %w", err)
	}
	return theirs, os.NewFile(uintptr(fds[0]), "pipe"), nil
}
