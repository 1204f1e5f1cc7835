//go:build boot && linux

package boottest

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/wire"
)

// The container's resolv.conf is what the host says, whatever the image has in
// its place, and follows the host.
func TestResolvConf(t *testing.T) {
	for name, link := range map[string]string{
		"a file":           "",
		"none":             "-",
		"a dangling link":  "../run/systemd/resolve/stub-resolv.conf",
		"an absolute link": "/run/resolvconf/resolv.conf",
	} {
		t.Run(name, func(t *testing.T) {
			changed, err := makeImage(t.TempDir(), func(root string) error {
				path := filepath.Join(root, "etc/resolv.conf")
				if link == "" {
					return nil
				}
				if err := os.Remove(path); err != nil || link == "-" {
					return err
				}
				return os.Symlink(link, path)
			})
			if err != nil {
				t.Fatal(err)
			}
			g := newGuest(t, "sh", "-c", "grep -v ^# /etc/resolv.conf; grep db /etc/hosts; echo ready; while ! grep -q b.example /etc/resolv.conf; do usleep 10000; done; grep -v ^# /etc/resolv.conf")
			g.image = changed
			g.manifest.Hosts = []wire.HostEntry{{Name: "db", Addr: netip.MustParseAddr("192.0.2.7")}}
			host := []netip.Addr{netip.MustParseAddr("198.18.0.2")}
			g.manifest.Resolver = &wire.Resolver{Nameservers: host, Search: []string{"a.example", "long.example"}, Options: []string{"ndots:2"}}
			g.onOutput = func(g *guest, all string) {
				if strings.HasSuffix(all, "ready\n") {
					g.send(wire.HostMessage{Type: wire.HostResolver, Resolver: &wire.Resolver{Nameservers: host, Search: []string{"b.example"}}})
				}
			}
			g.boot()
			g.wantExit(0, "")
			g.wantOutput("nameserver 198.18.0.2\nsearch a.example long.example\noptions ndots:2\n192.0.2.7\tdb\nready\nnameserver 198.18.0.2\nsearch b.example\n")
		})
	}
}
