package platform

import "testing"

// What only leads to this machine is no route to the internet, and neither is
// what IPv6 cannot reach.
func TestRouted(t *testing.T) {
	for _, addr := range []string{"[::1]:53", "[::]:53", "192.0.2.1:53", "[fe80::1]:53", "[2001:db8::1]"} {
		if routed(t.Context(), addr) {
			t.Errorf("%s is said to be on the IPv6 internet", addr)
		}
	}
}
