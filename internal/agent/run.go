//go:build linux

package agent

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"bake/internal/agent/console"
	"bake/internal/agent/container"
	"bake/internal/agent/link"
	"bake/internal/agent/mounts"
	"bake/internal/agent/socks"
	"bake/internal/wire"
)

const (
	runcPath     = "/bin/runc"
	hostsFile    = dir + "/hosts"
	hostnameFile = dir + "/hostname"
	resolvFile   = dir + "/resolv.conf"
)

// streams are the container's standard streams: console.Pipes or
// console.Terminal.
type streams interface {
	Finish(ctx context.Context)
	Close()
}

// servePorts lets the host connect to servers in the guest.
func (a *agent) servePorts(ctx context.Context) error {
	l, err := link.Listen(wire.PortSOCKS)
	if err != nil {
		return err
	}
	server, err := socks.New()
	if err != nil {
		l.Close()
		return err
	}
	a.control.Load().setUsage(func() wire.Stats { return a.usage(server) })
	// One more than there are, for the loop that carries the connections and
	// waits for the next message on its own (relay.NewLoop).
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	go func() {
		if err := a.protect(func() error { return server.Serve(ctx, l) }); err != nil {
			a.warn("published ports do not work any more: %v", err)
		}
	}()
	return nil
}

func dialConsole(ctx context.Context) (console.Conn, error) {
	return link.Dial(ctx, wire.PortConsole)
}

func (a *agent) openStreams(ctx context.Context) error {
	if a.manifest.Process.Terminal {
		t, err := console.OpenTerminal(ctx, dialConsole)
		if err != nil {
			return err
		}
		a.streams = t
		return nil
	}
	p, err := console.OpenPipes(ctx, dialConsole)
	if err != nil {
		return err
	}
	a.streams = p
	return nil
}

func (a *agent) startContainer(ctx context.Context) (*container.Container, error) {
	cfg := container.Config{
		Layout: container.Layout{
			Rootfs:     mounts.Rootfs,
			Hosts:      hostsFile,
			Hostname:   hostnameFile,
			ResolvConf: resolvFile,
			Filesystem: mounts.Known,
			Device:     exists,
		},
		Volumes:  a.volumeMounts(),
		Hostname: a.manifest.Hostname,
		Process:  a.manifest.Process,
		Runc:     runcPath,
		Dir:      dir,
		Reaper:   a.reaper,
	}
	switch s := a.streams.(type) {
	case *console.Pipes:
		cfg.Stdin, cfg.Stdout, cfg.Stderr = s.Stdin, s.Stdout, s.Stderr
		c, err := container.Start(ctx, cfg)
		if err == nil {
			s.Start()
		}
		return c, err
	case *console.Terminal:
		c, err := container.Start(ctx, cfg)
		if err == nil {
			s.Start(c.Terminal)
			a.control.Load().setTerminal(s)
		}
		return c, err
	}
	return nil, fmt.Errorf("the container has no streams")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
