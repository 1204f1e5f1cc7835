// Package manifest is the host end of vsock port 13: it hands the boot
// manifest to the agent, once.
//
// It does not know what is in a manifest; the run role makes it.
package manifest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"bake/internal/wire"
)

// Serve gives m to the first connection of ln, with the time of that moment in
// UnixNano, and returns. Later connections find the port closed: a second
// reader would be something in the guest that has no business to know the
// container's environment. Serve closes ln. It returns nil when ctx ends.
func Serve(ctx context.Context, ln net.Listener, m wire.BootManifest) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	conn, err := ln.Accept()
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("wait for the guest to ask for its boot manifest: %w", err)
	}
	defer conn.Close()
	stopConn := context.AfterFunc(ctx, func() { conn.Close() })
	defer stopConn()
	m.Version = wire.ManifestVersion
	m.UnixNano = time.Now().UnixNano()
	if err := wire.WriteManifest(conn, &m); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("send the boot manifest to the guest: %w", err)
	}
	return nil
}
