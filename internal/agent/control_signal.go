//go:build linux

package agent

import (
	"golang.org/x/sys/unix"

	"bake/internal/agent/signals"
)

// signalQueue is how many signals may arrive before the command runs.
const signalQueue = 64

// A command takes the host's signals; it is the container.
type command interface {
	Signal(unix.Signal) error
}

// setCommand names who takes signals, and hands over those that came before;
// nil says that there is nobody any more.
func (c *control) setCommand(cmd command) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.command = cmd
	if cmd == nil {
		c.ended = true
		return
	}
	for _, sig := range c.early {
		c.deliver(sig)
	}
	c.early = nil
}

func (c *control) signal(name string) {
	sig, err := signals.Parse(name)
	if err != nil {
		c.log.always("the host sends a signal: %v", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.command != nil:
		c.deliver(sig)
	case c.ended:
		// What is left to kill is the wait for whoever reads the output.
		if sig == unix.SIGKILL {
			c.endOutput()
		}
	case len(c.early) < signalQueue:
		c.early = append(c.early, sig)
	}
}

func (c *control) deliver(sig unix.Signal) {
	if err := c.command.Signal(sig); err != nil {
		c.log.always("pass %s on to the container: %v", signals.Name(sig), err)
	}
}
