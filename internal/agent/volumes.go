//go:build linux

package agent

import (
	"context"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"bake/internal/agent/link"
	"bake/internal/agent/mounts"
	"bake/internal/agent/volumes"
	"bake/internal/wire"
)

// mountVolumes mounts the volumes where runc finds them.
func (a *agent) mountVolumes(ctx context.Context) error {
	if len(a.manifest.Volumes) == 0 {
		return nil
	}
	a.volumes = volumes.New(volumes.Config{
		Dir:      dir + "/volumes",
		Rootfs:   mounts.Rootfs,
		Dial:     dialFiles,
		Progress: func() { a.advanced.Store(true) },
	})
	if err := a.volumes.Mount(ctx, a.manifest.Volumes); err != nil {
		return err
	}
	a.control.Load().setVolumes(a.volumes)
	return nil
}

func dialFiles(ctx context.Context) (volumes.Conn, error) {
	conn, err := link.Dial(ctx, wire.PortFiles)
	if err != nil {
		return nil, err
	}
	c, ok := conn.(volumes.Conn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("a connection to the host has no descriptor: %T", conn)
	}
	return c, nil
}

// closeVolumes sees to it that what was written to the volumes is out of the
// guest, and tells the user if it is not. It comes before the last message, for
// the host waits for that, and not much longer.
func (a *agent) closeVolumes() {
	if a.volumes == nil {
		return
	}
	c := a.control.Load()
	c.setVolumes(nil)
	for _, err := range a.volumes.Close() {
		a.log.always("%v", err)
		if err := c.send(wire.GuestMessage{Type: wire.GuestWarning, Message: err.Error()}); err != nil {
			a.log.always("%v", err)
		}
	}
	a.volumes = nil
}

// volumeMounts are the volumes for runc.
func (a *agent) volumeMounts() []specs.Mount {
	if a.volumes == nil {
		return nil
	}
	return a.volumes.Mounts()
}
