package forward

import (
	"net/netip"
	"strings"
	"testing"
)

// The headers are written by hand from proxy-protocol.txt, sections 2.1 and
// 2.2; the text of version 1 has them as examples.
func TestProxyHeader(t *testing.T) {
	const signature = "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
	loopback6 := strings.Repeat("\x00", 15) + "\x01"
	for _, tt := range []struct {
		version  ProxyProtocol
		src, dst string
		want     string
	}{
		{ProxyV1, "192.168.0.1:56324", "192.168.0.11:443", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"},
		{ProxyV1, "255.255.255.255:65535", "255.255.255.255:65535", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"},
		{ProxyV1, "[::1]:1", "[2001:db8::a]:443", "PROXY TCP6 ::1 2001:db8::a 1 443\r\n"},
		{ProxyV1, "[fe80::1%eth0]:1", "[fe80::2%eth0]:443", "PROXY TCP6 fe80::1 fe80::2 1 443\r\n"},
		{ProxyV1, "[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.2]:443", "PROXY TCP4 10.0.0.1 10.0.0.2 1 443\r\n"},
		{ProxyV2, "192.168.0.1:56324", "192.168.0.11:443", signature + "\x21\x11\x00\x0c" + "\xc0\xa8\x00\x01" + "\xc0\xa8\x00\x0b" + "\xdc\x04" + "\x01\xbb"},
		{ProxyV2, "[::1]:1", "[2001:db8::a]:443", signature + "\x21\x21\x00\x24" + loopback6 + "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x0a" + "\x00\x01" + "\x01\xbb"},
		{ProxyV2, "[::ffff:10.0.0.1]:1", "10.0.0.2:443", signature + "\x21\x11\x00\x0c" + "\x0a\x00\x00\x01" + "\x0a\x00\x00\x02" + "\x00\x01" + "\x01\xbb"},
		{ProxyNone, "10.0.0.1:1", "10.0.0.2:443", ""},
	} {
		got := tt.version.appendHeader([]byte("before"), netip.MustParseAddrPort(tt.src), netip.MustParseAddrPort(tt.dst))
		if string(got) != "before"+tt.want {
			t.Errorf("v%d, %s to %s: %q, want %q", tt.version, tt.src, tt.dst, got, tt.want)
		}
		// The longest line that a receiver has to have room for (section 2.1).
		if tt.version == ProxyV1 && len(tt.want) > 107 {
			t.Errorf("%q has %d bytes", tt.want, len(tt.want))
		}
	}
}

func TestParseProxyProtocol(t *testing.T) {
	for s, want := range map[string]ProxyProtocol{"v1": ProxyV1, "v2": ProxyV2} {
		if got, err := ParseProxyProtocol(s); got != want || err != nil {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "v3", "1", "V1"} {
		if _, err := ParseProxyProtocol(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
