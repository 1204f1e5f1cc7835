package wire

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func testTunnel() *WireGuard {
	w := &WireGuard{
		Name: "wg0", ListenPort: 51820, FwMark: 0xca6c, MTU: 1420, Table: 7,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
		Peers: []WireGuardPeer{
			{Endpoint: WireGuardEndpoint{Name: "vpn.example.com", Port: 1}, Keepalive: 25, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("::/0")}},
			{Endpoint: WireGuardEndpoint{Addr: netip.MustParseAddr("2001:db8::1"), Port: 65535}},
			{},
		},
	}
	for i := range w.PrivateKey {
		w.PrivateKey[i] = byte(0x80 + i)
		w.Peers[0].PublicKey[i], w.Peers[1].PublicKey[i] = byte(i), byte(i/2)
		w.Peers[1].PresharedKey[i] = byte(255 - i)
	}
	return w
}

func TestWireGuardRoundTrip(t *testing.T) {
	m := &BootManifest{Version: ManifestVersion, WireGuard: testTunnel()}
	var buf bytes.Buffer
	if err := WriteManifest(&buf, m); err != nil {
		t.Fatal(err)
	}
	for _, absent := range []string{`"endpoint":{}`, "noRoutes", "invalid"} {
		if strings.Contains(buf.String(), absent) {
			t.Errorf("the encoding has %s: %s", absent, buf.Bytes())
		}
	}
	if n := strings.Count(buf.String(), "presharedKey"); n != 1 {
		t.Errorf("the encoding has %d preshared keys, want 1", n)
	}
	got, err := ReadManifest(&buf)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v, %v; want %+v", got.WireGuard, err, m.WireGuard)
	}
}

// No way of printing shows a secret.
func TestSecretsDoNotPrint(t *testing.T) {
	m := &BootManifest{WireGuard: testTunnel()}
	secrets := [][]byte{m.WireGuard.PrivateKey[:4], m.WireGuard.Peers[1].PresharedKey[:4]}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, what := range []any{*m.WireGuard, m.WireGuard, m.WireGuard.Peers, m.WireGuard.PrivateKey, &m.WireGuard.PrivateKey} {
			printed := fmt.Sprintf(verb, what)
			for _, s := range secrets {
				for _, form := range []string{string(encodeKey(s)[:5]), strings.Trim(fmt.Sprint(s), "[]"), fmt.Sprintf("%x", s), fmt.Sprintf("0x%x, 0x%x", s[0], s[1])} {
					if strings.Contains(printed, form) {
						t.Errorf("%s of a %T shows %q", verb, what, form)
					}
				}
			}
		}
	}
}

func TestKeyText(t *testing.T) {
	good := "yAnz5TF+lXXJte14tjiMZzNM9W0FqxPmR0qXyoCM3kM="
	var k WireGuardKey
	if err := k.UnmarshalText([]byte(good)); err != nil || k.String() != good {
		t.Errorf("%v is %v, %v", good, k, err)
	}
	for _, bad := range []string{
		"", good[:43], good + "=", strings.TrimSuffix(good, "="), good[:42] + "==",
		good[:42] + "N=", // bits that are not of the key
		strings.Replace(good, "+", "-", 1), strings.Replace(good, "T", "\n", 1), strings.Repeat("A", 44),
	} {
		var s WireGuardSecret
		err := s.UnmarshalText([]byte(bad))
		if err == nil {
			t.Errorf("%q is taken for a key", bad)
		} else if len(bad) > 8 && strings.Contains(err.Error(), bad[:8]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}
