//go:build linux

package agent

import (
	"context"
	"fmt"
	"os"

	"bake/internal/agent/modules"
	"bake/internal/agent/wireguard"
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
		Network: a.manifest.Network, Hosts: a.manifest.Hosts, Warn: a.warn, Log: a.log.verbose,
	})
	return err
}
