package app

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"bake/internal/policy"
	"bake/internal/service/egress"
	"bake/internal/wgconf"
	"bake/internal/wire"
)

const testTunnel = `[Interface]
PrivateKey = SKOslwyMv1Df2D0vxSWJo2IDUdHlpXfhYaj55ep3NVw=
DNS = 10.0.0.1
SaveConfig = true
[Peer]
PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
Endpoint = 192.0.2.1:51820
`

func TestPlanHasTheTunnel(t *testing.T) {
	c, err := wgconf.Parse("office.conf", []byte(testTunnel))
	if err != nil {
		t.Fatal(err)
	}
	pl := tunnelPlan(t, wire.DefaultNetwork(false), policy.Rules{})
	host := wire.Resolver{Nameservers: []netip.Addr{pl.manifest.Network.HostIPv4}}
	if err := pl.addWireGuard(nil, nil); err != nil || pl.manifest.WireGuard != nil || !reflect.DeepEqual(pl.resolver(host), host) {
		t.Errorf("without a tunnel: %+v, %v", pl.manifest, err)
	}
	if err := pl.addWireGuard(c, nil); err != nil {
		t.Fatal(err)
	}
	if w := pl.manifest.WireGuard; w == nil || w.Name != "office" || len(w.Peers) != 1 {
		t.Errorf("the guest is told of %+v", w)
	}
	if r := pl.resolver(host); !reflect.DeepEqual(r.Nameservers, c.DNS) {
		t.Errorf("the guest asks %v", r.Nameservers)
	}
	if len(pl.warnings) != 1 || !strings.Contains(pl.warnings[0], "SaveConfig") {
		t.Errorf("the warnings are %q", pl.warnings)
	}
}

func TestPlanRefusesTheTunnel(t *testing.T) {
	for _, tt := range []struct {
		network *wire.Network
		rules   policy.Rules
		want    string
	}{
		{nil, policy.Rules{Disabled: true}, "--disable-hostnet"},
		{wire.DefaultNetwork(false), policy.Rules{Allow: []string{"10.0.0.0/8"}}, "office.conf, line 7: the tunnel cannot reach its Endpoint: "},
		{wire.DefaultNetwork(false), policy.Rules{Allow: []string{"192.0.2.1/tcp"}}, "192.0.2.1:51820"},
		{wire.DefaultNetwork(false), policy.Rules{Deny: []string{"host.example"}}, "host.example"},
		{wire.DefaultNetwork(false), policy.Rules{}, "--allow-host-loopback"},
		{wire.DefaultNetwork(false), policy.Rules{HostLoopback: true}, ""},
	} {
		text := testTunnel
		switch tt.want {
		case "host.example":
			text = strings.Replace(text, "192.0.2.1:", "host.example:", 1)
		case "--allow-host-loopback", "":
			text = strings.Replace(text, "192.0.2.1:", wire.HostName+":", 1)
		}
		c, err := wgconf.Parse("office.conf", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		pl := tunnelPlan(t, tt.network, tt.rules)
		err = pl.addWireGuard(c, nil)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || (pl.manifest.WireGuard == nil) != (err != nil) {
			t.Errorf("%+v: %v, want %q", tt.rules, err, tt.want)
		}
	}
}

func tunnelPlan(t *testing.T, n *wire.Network, r policy.Rules) *plan {
	t.Helper()
	p, err := policy.New(r)
	if err != nil {
		t.Fatal(err)
	}
	return &plan{manifest: wire.BootManifest{Network: n}, policy: p}
}

// A tunnel does not go around a proxy, but to the host it may.
func TestTunnelBesideProxy(t *testing.T) {
	for _, tt := range []struct{ proxy, endpoint, want string }{
		{"socks5://192.0.2.9", "192.0.2.1:51820", "--proxy"},
		{"socks5://192.0.2.9", "vpn.example:51820", "--proxy"},
		{"http://192.0.2.9", "vpn.example:51820", "--proxy"},
		{"http://192.0.2.9", wire.HostName + ":51820", ""},
		{"env", "192.0.2.1:51820", ""},
		{"env", "192.0.2.2:51820", "--proxy"},
	} {
		env := map[string]string{"HTTPS_PROXY": "http://192.0.2.9", "NO_PROXY": "192.0.2.1"}
		proxy, err := egress.ParseProxy(tt.proxy, func(key string) string { return env[key] })
		if err != nil {
			t.Fatal(err)
		}
		c, err := wgconf.Parse("office.conf", []byte(strings.Replace(testTunnel, "192.0.2.1:51820", tt.endpoint, 1)))
		if err != nil {
			t.Fatal(err)
		}
		err = tunnelPlan(t, wire.DefaultNetwork(false), policy.Rules{HostLoopback: true}).addWireGuard(c, proxy)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s to %s: %v, want %q", tt.proxy, tt.endpoint, err, tt.want)
		}
	}
}
