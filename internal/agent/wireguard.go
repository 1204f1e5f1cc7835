//go:build linux

package agent

import (
	"context"
	"fmt"
	"os"

	"bake/internal/agent/modules"
	"bake/internal/agent/wireguard"
	"bake/internal/wire"
)

// wireGuardModules are those that nothing but a tunnel needs, of kernels that
// have WireGuard as a module.
const wireGuardModules = "/modules/wireguard"

// setUpWireGuard makes the tunnel, if there is to be one. The network over
// which it leaves is up.
func (a *agent) setUpWireGuard(ctx context.Context) error {
	w := a.manifest.WireGuard
	if w == nil {
		// They are memory, and will not be needed.
		if err := os.RemoveAll(wireGuardModules); err != nil {
			return fmt.Errorf("free the memory of kernel modules that are not used: %w", err)
		}
		return nil
	}
	if _, err := modules.Load(wireGuardModules); err != nil {
		return err
	}
	// It lasts as long as the guest.
	_, err := wireguard.Start(ctx, w, wireguard.Options{
		Network: a.manifest.Network, Hosts: a.manifest.Hosts, Warn: a.tell, Log: a.log.verbose,
	})
	return err
}

// tell tells the user, with --verbose or without, of something that was asked
// for and does not work, or not yet.
func (a *agent) tell(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	a.log.always("%s", message)
	if err := a.control.Load().send(wire.GuestMessage{Type: wire.GuestWarning, Message: message}); err != nil {
		a.log.always("%v", err)
	}
}
