package app

import (
	"context"
	"errors"
	"time"

	"bake/internal/payload"
	"bake/internal/policy"
	"bake/internal/wire"
)

// networkPolicy joins what is embedded with the flags, which can narrow it and
// not widen it. Its errors are sentences about one flag.
func networkPolicy(embedded payload.Network, o Options) (*policy.Policy, error) {
	if embedded.Disabled && o.Hostnet {
		return nil, errors.New("--disable-hostnet=false cannot give this app a network: it was built with --disable-hostnet, which no flag takes back; leave it out")
	}
	var layers []policy.Rules
	for _, r := range []policy.Rules{
		{
			Allow: embedded.Allow, Deny: embedded.Deny, HostLoopback: embedded.HostLoopback,
			Disabled: embedded.Disabled, Source: "embedded in the app",
		},
		o.Network,
	} {
		if !r.Empty() {
			layers = append(layers, r)
		}
	}
	return policy.New(layers...)
}

// denialInterval is how often the guest is told of denials at most.
const denialInterval = time.Second

// watchDenials tells the guest how much its network policy has denied, when
// that has changed, until ctx ends.
func watchDenials(ctx context.Context, denials func() uint64, send func(wire.HostMessage) error) {
	tick := time.NewTicker(denialInterval)
	defer tick.Stop()
	reportDenials(ctx, tick.C, denials, send)
}

// reportDenials is watchDenials for a clock of the caller's. What cannot be
// sent is told again at the next tick.
func reportDenials(ctx context.Context, ticks <-chan time.Time, denials func() uint64, send func(wire.HostMessage) error) {
	var told uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		if n := denials(); n != told && send(wire.HostMessage{Type: wire.HostNetwork, Denied: n}) == nil {
			told = n
		}
	}
}
