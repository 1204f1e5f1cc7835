package runflags

import (
	"github.com/spf13/pflag"

	"bake/internal/policy"
)

// Network are the flags of what the guest may reach, the same for an app and
// for what is embedded in one.
type Network struct {
	set                    *pflag.FlagSet
	allow, deny            []string
	disabled, hostLoopback bool
}

const (
	disableHostnet    = "disable-hostnet"
	allowHostLoopback = "allow-host-loopback"
)

// RegisterNetwork adds the flags to set.
func RegisterNetwork(set *pflag.FlagSet) *Network {
	n := &Network{set: set}
	set.StringArrayVar(&n.allow, "allow-net", nil, "allow this and nothing else: `RULE` is an address, a network, a name or *.NAME,\nthen :PORT or :PORT-PORT and /tcp or /udp if it is about those only (repeatable)")
	set.StringArrayVar(&n.deny, "deny-net", nil, "deny this whatever is allowed; a `RULE` as for --allow-net (repeatable)")
	set.BoolVar(&n.disabled, disableHostnet, false, "give the container no network but its own loopback")
	set.BoolVar(&n.hostLoopback, allowHostLoopback, false, "let the container reach the loopback of this host, as "+policy.HostName)
	return n
}

// Rules are the flags' values, and an error for one that is no rule.
func (n *Network) Rules() (policy.Rules, error) {
	r := policy.Rules{Allow: n.allow, Deny: n.deny, Disabled: n.disabled, HostLoopback: n.hostLoopback}
	if n.set.Changed(allowHostLoopback) && !n.hostLoopback {
		// So that --allow-host-loopback=false closes what is embedded as open.
		r.Deny = append(r.Deny[:len(r.Deny):len(r.Deny)], policy.HostName)
	}
	_, err := policy.New(r)
	return r, err
}

// wanted says that --disable-hostnet=false was given.
func (n *Network) wanted() bool { return n.set.Changed(disableHostnet) && !n.disabled }
