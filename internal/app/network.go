package app

import (
	"errors"

	"bake/internal/payload"
	"bake/internal/policy"
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
