package app

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

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
	pl := &plan{manifest: wire.BootManifest{Network: wire.DefaultNetwork(false)}}
	host := wire.Resolver{Nameservers: []netip.Addr{pl.manifest.Network.HostIPv4}}
	if err := pl.addWireGuard(nil, wgconf.Policy{}); err != nil || pl.manifest.WireGuard != nil || !reflect.DeepEqual(pl.resolver(host), host) {
		t.Errorf("without a tunnel: %+v, %v", pl.manifest, err)
	}
	if err := pl.addWireGuard(c, wgconf.Policy{}); err != nil {
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
	c, err := wgconf.Parse("office.conf", []byte(testTunnel))
	if err != nil {
		t.Fatal(err)
	}
	deny := wgconf.Policy{Addr: func(a netip.AddrPort) error { return errors.New("denied udp " + a.String()) }}
	for _, tt := range []struct {
		network *wire.Network
		policy  wgconf.Policy
		want    string
	}{
		{nil, wgconf.Policy{}, "--disable-hostnet"},
		{wire.DefaultNetwork(false), deny, "office.conf, line 7: the tunnel cannot reach its Endpoint: denied udp 192.0.2.1:51820"},
	} {
		pl := &plan{manifest: wire.BootManifest{Network: tt.network}}
		if err := pl.addWireGuard(c, tt.policy); err == nil || !strings.Contains(err.Error(), tt.want) || pl.manifest.WireGuard != nil {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}
