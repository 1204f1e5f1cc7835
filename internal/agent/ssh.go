//go:build linux

package agent

import (
	"context"
	"time"

	"bake/internal/agent/container"
	"bake/internal/agent/link"
	"bake/internal/agent/names"
	"bake/internal/agent/sshd"
	"bake/internal/wire"
)

// sshEndTime bounds the wait for sessions when the container has ended. The
// server itself takes less, but for a bug.
const sshEndTime = 5 * time.Second

// serveSSH lets the host's user log in to the container, which runs by now. Call
// end when it has ended. A guest in which it does not work still runs.
func (a *agent) serveSSH(c *container.Container) (end func()) {
	if a.manifest.SSH == nil {
		return func() {}
	}
	l, err := link.Listen(wire.PortSSH)
	if err != nil {
		a.warn("nobody can log in: %v", err)
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := a.protect(func() error {
			return sshd.Serve(ctx, l, sshd.Config{
				Keys:      *a.manifest.SSH,
				Container: sshd.In(c),
				Lookup:    names.Files{Hosts: hostsFile, ResolvConf: resolvFile}.Lookup,
				Log:       a.log.verbose,
			})
		})
		if err != nil {
			a.warn("nobody can log in any more: %v", err)
		}
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-time.After(sshEndTime):
		}
	}
}
