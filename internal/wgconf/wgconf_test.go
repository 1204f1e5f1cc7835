package wgconf

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"bake/internal/wire"
)

// Keys made for these tests with wg genkey, wg pubkey and wg genpsk.
const (
	privateText = "SKOslwyMv1Df2D0vxSWJo2IDUdHlpXfhYaj55ep3NVw="
	publicText  = "aolSo7M6t9qMs1EZ5nWhgFcVZLATSB7kkf/Z0o3AgQ8=" // of privateText
	peer1Text   = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
	peer2Text   = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
	sharedText  = "yAnz5TF+lXXJte14tjiMZzNM9W0FqxPmR0qXyoCM3kM="
)

func full() string {
	return "\ufeff# a comment\r\n" +
		"[Interface]\r\n" +
		"PrivateKey = " + privateText + " # ours\r\n" +
		"ListenPort=51820\r\n" +
		"FwMark = 0xca6c\r\n" +
		"Address = 10.0.0.2/24 , fd00::2/64\r\n" +
		"address = 192.0.2.7\r\n" +
		"DNS = 10.0.0.1, corp.example.com, FD00::1\r\n" +
		"DNS = Example.net.\r\n" +
		"MTU = 1380\r\n" +
		"Table = 1234\r\n" +
		"SaveConfig = true\r\n" +
		"\r\n" +
		"[peer]\r\n" +
		"PUBLICKEY = " + peer1Text + "\r\n" +
		"PresharedKey = " + sharedText + "\r\n" +
		"Endpoint = VPN.example.com.:51820\r\n" +
		"AllowedIPs = 10.1.2.3/16, 2001:db8::5/32\r\n" +
		"AllowedIPs = 192.0.2.1\r\n" +
		"PersistentKeepalive = 25\r\n" +
		"[Peer]\n" +
		"PublicKey = " + peer2Text + "\n" +
		"Endpoint = [2001:db8::1]:1\n" +
		"AllowedIPs =\n" +
		"PersistentKeepalive = off"
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func publicKey(t *testing.T, text string) (k wire.WireGuardKey) {
	t.Helper()
	if err := k.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParse(t *testing.T) {
	c, err := Parse("/etc/wireguard/office.conf", []byte(full()))
	if err != nil {
		t.Fatal(err)
	}
	want := wire.WireGuard{
		Name: "office", ListenPort: 51820, FwMark: 0xca6c, MTU: 1380, Table: 1234,
		PrivateKey: wire.WireGuardSecret(publicKey(t, privateText)),
		Addresses:  prefixes("10.0.0.2/24", "fd00::2/64", "192.0.2.7/32"),
		Peers: []wire.WireGuardPeer{{
			PublicKey:    publicKey(t, peer1Text),
			PresharedKey: wire.WireGuardSecret(publicKey(t, sharedText)),
			Endpoint:     wire.WireGuardEndpoint{Name: "vpn.example.com", Port: 51820},
			AllowedIPs:   prefixes("10.1.0.0/16", "2001:db8::/32", "192.0.2.1/32"),
			Keepalive:    25,
		}, {
			PublicKey: publicKey(t, peer2Text),
			Endpoint:  wire.WireGuardEndpoint{Addr: netip.MustParseAddr("2001:db8::1"), Port: 1},
		}},
	}
	if !reflect.DeepEqual(c.Tunnel, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c.Tunnel, want)
	}
	if want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}; !reflect.DeepEqual(c.DNS, want) {
		t.Errorf("DNS is %v", c.DNS)
	}
	if !reflect.DeepEqual(c.Search, []string{"corp.example.com", "example.net"}) {
		t.Errorf("the domains are %q", c.Search)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "office.conf, line 12: SaveConfig") {
		t.Errorf("the warnings are %q", c.Warnings)
	}
}

func TestDefaults(t *testing.T) {
	for table, want := range map[string]wire.WireGuard{
		"":                 {},
		"Table = auto":     {},
		"Table = OFF":      {NoRoutes: true},
		"Table = main":     {Table: 254},
		"Table = 0x10":     {Table: 16},
		"Table=4294967295": {Table: 1<<32 - 1},
	} {
		c, err := Parse("x", []byte("[Interface]\nPrivateKey="+privateText+"\n"+table))
		if err != nil {
			t.Errorf("%s: %v", table, err)
			continue
		}
		want.Name, want.MTU, want.PrivateKey = "x", DefaultMTU, c.Tunnel.PrivateKey
		if !reflect.DeepEqual(c.Tunnel, want) {
			t.Errorf("%s: got %+v, want %+v", table, c.Tunnel, want)
		}
	}
}

func TestInterfaceName(t *testing.T) {
	for path, want := range map[string]string{
		"wg7.conf": "wg7", "/a/b/office": "office", "dir/my_vpn=+.-1.conf": "my_vpn=+.-1", "a.conf.conf": "a.conf",
		"fifteen-letters.conf": "fifteen-letters", "sixteen-letters1.conf": "wg0", "two words.conf": "wg0", ".conf": "wg0",
		"..": "wg0", "lo.conf": "wg0", "all": "wg0", "default": "wg0", "hostnet.conf": "wg0", "vpn-ä.conf": "wg0", "": "wg0",
	} {
		if got := interfaceName(path); got != want {
			t.Errorf("%q makes %q, want %q", path, got, want)
		}
	}
}

// What is refused, with the line and what the sentence says.
func TestRefused(t *testing.T) {
	inInterface := func(lines string) string { return "[Interface]\nPrivateKey=" + privateText + "\n" + lines }
	inPeer := func(lines string) string {
		return "[Interface]\nPrivateKey=" + privateText + "\n[Peer]\nPublicKey=" + peer1Text + "\n" + lines
	}
	for _, tt := range []struct {
		name, text string
		line       int
		want       string
	}{
		{"empty", "", 0, "no [Interface]"},
		{"comments alone", "# x\n\n", 0, "no [Interface]"},
		{"peers alone", "[Peer]\nPublicKey=" + peer1Text, 0, "no [Interface]"},
		{"no text", "\x7fELF\x00\x01", 0, "not a text file"},
		{"not UTF-8", "[Interface]\xff", 0, "not a text file"},
		{"too long", strings.Repeat("#", MaxFile+1), 0, "longer than 64 KiB"},
		{"key before a section", "PrivateKey=" + privateText, 1, "section"},
		{"unknown section", "[Server]\n", 1, "neither [Interface] nor [Peer]"},
		{"unfinished section", "[Peer\n", 1, "neither"},
		{"two interfaces", inInterface("[Interface]\n"), 3, "line 1 has the first"},
		{"no private key", "\n[Interface]\nMTU=1400\n[Peer]\nPublicKey=" + peer1Text, 2, "no PrivateKey"},
		{"no public key", inInterface("[Peer]\nAllowedIPs=::/0\n[Peer]\nPublicKey=" + peer1Text), 3, "no PublicKey"},
		{"no public key at the end", inInterface("[Peer]\nAllowedIPs=::/0\n"), 3, "no PublicKey"},
		{"no equals sign", inInterface("MTU 1400"), 3, "no '='"},
		{"unknown key", inInterface("Jc = 4"), 3, `"Jc" is no key`},
		{"a secret for a key", inInterface(sharedText), 3, "what stands before '='"},
		{"of a peer", inInterface("AllowedIPs=::/0"), 3, "AllowedIPs does not belong into a section [Interface]"},
		{"of an interface", inPeer("DNS=1.1.1.1"), 5, "DNS does not belong into a section [Peer]"},
		{"twice", inInterface("MTU=1400\nmtu=1401"), 4, "line 3 has it too"},
		{"no value", inInterface("MTU="), 3, "no value"},
		{"a comma too many", inInterface("Address=10.0.0.1,,10.0.0.2"), 3, "comma"},
		{"a comma alone", inPeer("AllowedIPs=,"), 5, "comma"},
		{"PreUp", inInterface("PreUp = iptables -A OUTPUT -j DROP, or not"), 3, "PreUp: it is a command"},
		{"PostUp", inInterface("PostUp=x"), 3, "PostUp: it is a command"},
		{"PreDown", inInterface("PreDown=x"), 3, "remove the line"},
		{"PostDown", inInterface("PostDown=x"), 3, "remove the line"},
		{"SaveConfig", inInterface("SaveConfig=maybe"), 3, "neither true nor false"},
		{"short private key", "[Interface]\nPrivateKey=" + privateText[:40], 2, "44 characters"},
		{"bad private key", "[Interface]\nPrivateKey=" + strings.Replace(privateText, "K", "!", 1), 2, "base64"},
		{"zero private key", "[Interface]\nPrivateKey=" + strings.Repeat("A", 43) + "=", 2, "all zeros"},
		{"zero public key", inInterface("[Peer]\nPublicKey=" + strings.Repeat("A", 43) + "="), 4, "all zeros"},
		{"short preshared key", inPeer("PresharedKey=abc"), 5, "44 characters"},
		{"own public key", inInterface("[Peer]\nPublicKey=" + publicText), 3, "this interface's own"},
		{"one peer twice", inPeer("[Peer]\nPublicKey=" + peer1Text), 5, "the one of line 3"},
		{"ListenPort", inInterface("ListenPort=65536"), 3, `ListenPort: "65536" is not a UDP port`},
		{"negative ListenPort", inInterface("ListenPort=-1"), 3, "0 to 65535"},
		{"FwMark", inInterface("FwMark=0x1ffffffff"), 3, "FwMark"},
		{"MTU", inInterface("MTU=65500"), 3, "packet size"},
		{"MTU too small", inInterface("MTU=67"), 3, "packet size"},
		{"MTU too small for IPv6", inInterface("MTU=1279\nAddress=fd00::1"), 0, "1280 or more"},
		{"Table", inInterface("Table=vpn"), 3, `"vpn" is neither auto`},
		{"Table 0", inInterface("Table=0"), 3, "neither auto"},
		{"table of the kernel", inInterface("Table=255"), 3, "255"},
		{"Address", inInterface("Address=10.0.0.256"), 3, "Address:"},
		{"Address with a long prefix", inInterface("Address=10.0.0.2/33"), 3, "10.0.0.2/33"},
		{"Address with a zone", inInterface("Address=fe80::1%eth0"), 3, "fe80::1%eth0"},
		{"Address of all", inInterface("Address=0.0.0.0/0"), 3, "an interface can have"},
		{"Address of many", inInterface("Address=224.0.0.1"), 3, "an interface can have"},
		{"Address twice", inInterface("Address=10.0.0.2/24\nAddress=10.0.0.2"), 4, "twice"},
		{"mapped Address", inInterface("Address=::ffff:10.0.0.2"), 3, "write it as IPv4"},
		{"DNS", inInterface("DNS=10.0.0.300"), 3, "neither the address of a name server"},
		{"DNS with a port", inInterface("DNS=10.0.0.3:53"), 3, "neither the address"},
		{"DNS of nobody", inInterface("DNS=0.0.0.0"), 3, "not the address of a name server"},
		{"DNS twice", inInterface("DNS=10.0.0.3\nDNS=10.0.0.3"), 4, "twice"},
		{"AllowedIPs", inPeer("AllowedIPs=10.0.0.0/8 10.1.0.0/16"), 5, "AllowedIPs:"},
		{"AllowedIPs with a mask", inPeer("AllowedIPs=10.0.0.0/255.0.0.0"), 5, "AllowedIPs:"},
		{"AllowedIPs twice", inPeer("AllowedIPs=10.0.0.0/8\n[Peer]\nPublicKey=" + peer2Text + "\nAllowedIPs=10.2.0.0/8"), 8, "10.0.0.0/8 is on line 5 too"},
		{"keepalive", inPeer("PersistentKeepalive=65536"), 5, "number of seconds"},
		{"Endpoint without a port", inPeer("Endpoint=vpn.example.com"), 5, "no port"},
		{"Endpoint with port 0", inPeer("Endpoint=vpn.example.com:0"), 5, "no port from 1"},
		{"Endpoint with a service", inPeer("Endpoint=vpn.example.com:https"), 5, "no port from 1"},
		{"Endpoint without brackets", inPeer("Endpoint=2001:db8::1:51820"), 5, "IPv6 address without brackets"},
		{"Endpoint with half a bracket", inPeer("Endpoint=[2001:db8::1:51820"), 5, "bracket that does not end"},
		{"Endpoint with IPv4 in brackets", inPeer("Endpoint=[192.0.2.1]:51820"), 5, "no IPv6 address in its brackets"},
		{"Endpoint with a zone", inPeer("Endpoint=[fe80::1%eth0]:51820"), 5, "zone"},
		{"Endpoint of itself", inPeer("Endpoint=127.0.0.1:51820"), 5, "host.bake.internal:51820"},
		{"Endpoint of all", inPeer("Endpoint=0.0.0.0:51820"), 5, "not the address of one machine"},
		{"Endpoint of many", inPeer("Endpoint=255.255.255.255:51820"), 5, "not the address of one machine"},
		{"Endpoint almost an address", inPeer("Endpoint=192.0.2.256:51820"), 5, "ends in a number"},
		{"Endpoint with a bad name", inPeer("Endpoint=vpn_.-example:51820"), 5, "is no name"},
		{"Endpoint beyond ASCII", inPeer("Endpoint=bücher.example:51820"), 5, "xn--"},
		{"Endpoint without a name", inPeer("Endpoint=:51820"), 5, "1 to 253"},
		{"Endpoint twice", inPeer("Endpoint=a.example:1\nEndpoint=b.example:1"), 6, "line 5 has it too"},
		{"a secret for an address", inInterface("Address=" + sharedText), 3, "what is there"},
		{"a secret for a name", inPeer("Endpoint=" + sharedText + ":1"), 5, "what is there"},
		{"a secret for a number", inInterface("MTU=" + sharedText), 3, "what is there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("wg.conf", []byte(tt.text))
			if err == nil {
				t.Fatal("it is taken")
			}
			at := "wg.conf"
			if tt.line > 0 {
				at = fmt.Sprintf("wg.conf, line %d: ", tt.line)
			}
			if !strings.HasPrefix(err.Error(), at) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %q and %q", err, at, tt.want)
			}
			checkError(t, tt.text, err)
		})
	}
}

var secretRE = regexp.MustCompile(`[A-Za-z0-9+/]{20,}`)

// checkError says what must hold of every error for every text.
func checkError(t *testing.T, text string, err error) {
	t.Helper()
	if strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 600 {
		t.Errorf("the error is not one sentence: %q", err)
	}
	for _, s := range secretRE.FindAllString(text, -1) {
		// A name of a domain is shown, and may be that long.
		if len(s) >= 40 && strings.Contains(err.Error(), s) {
			t.Errorf("the error shows %s: %v", s, err)
		}
	}
}

func TestPeerLimit(t *testing.T) {
	text := "[Interface]\nPrivateKey=" + privateText + "\n"
	for i := range MaxPeers {
		var k wire.WireGuardKey
		k[0], k[1] = byte(i), byte(1+i>>8)
		text += "[Peer]\nPublicKey=" + k.String() + "\n"
	}
	c, err := Parse("x", []byte(text))
	if err != nil || len(c.Tunnel.Peers) != MaxPeers {
		t.Fatalf("%d peers are not taken: %v", MaxPeers, err)
	}
	if _, err := Parse("x", []byte(text+"[Peer]\n")); err == nil || !strings.Contains(err.Error(), "1001") {
		t.Errorf("one peer more: %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "office.conf")
	text := "[Interface]\nPrivateKey=" + privateText + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil || len(c.Warnings) != 0 || c.Tunnel.Name != "office" {
		t.Errorf("got %+v, %v", c, err)
	}
	for mode, warned := range map[os.FileMode]bool{0o640: false, 0o604: true, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if err != nil || (len(c.Warnings) == 1) != warned || warned && !strings.Contains(c.Warnings[0], "chmod go= "+path) {
			t.Errorf("with mode %o: %+v, %v", mode, c, err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, []byte(strings.Repeat("#\n", MaxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file", dir: "not a regular file", fifo: "not a regular file", long: "longer than 64 KiB",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full())
	f.Add("[Interface]\nPrivateKey=" + privateText + "\nAddress=::1/0,\n[Peer]\nEndpoint=[::]:0")
	f.Add("[Interface]\n" + sharedText + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("wg.conf", []byte(text))
		if err != nil {
			checkError(t, text, err)
			return
		}
		w := c.Tunnel
		if w.PrivateKey == (wire.WireGuardSecret{}) || w.MTU < minMTU || w.MTU > maxMTU || len(w.Peers) > MaxPeers {
			t.Errorf("%q gives %+v", text, w)
		}
		for _, p := range w.Peers {
			if p.PublicKey == (wire.WireGuardKey{}) || !p.Endpoint.IsZero() && (p.Endpoint.Port == 0 || (p.Endpoint.Name == "") != p.Endpoint.Addr.IsValid()) {
				t.Errorf("%q gives %+v", text, p)
			}
			for _, a := range p.AllowedIPs {
				if a != a.Masked() || !a.IsValid() {
					t.Errorf("%q gives %v", text, a)
				}
			}
		}
	})
}
