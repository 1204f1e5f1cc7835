//go:build linux

package names

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	f := Files{Hosts: filepath.Join(t.TempDir(), "hosts"), ResolvConf: "/no/such"}
	text := "127.0.0.1\tlocalhost  bakery\n::1 localhost\n# 10.0.0.1 comment\n10.0.0.2 db DB.example # 10.0.0.3\nbroken\nx y\n"
	if err := os.WriteFile(f.Hosts, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"localhost": "127.0.0.1 ::1", "bakery": "127.0.0.1", "Db": "10.0.0.2", "db.example.": "10.0.0.2",
		"192.0.2.7": "192.0.2.7", "::1": "::1", "comment": "", "10.0.0.3": "10.0.0.3", "y": "",
	} {
		addrs, err := f.Lookup(context.Background(), name)
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("%s is %v, %v; want %q", name, addrs, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "name server") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestResolvConf(t *testing.T) {
	servers, search := parseResolvConf("; no\nnameserver 192.0.2.1 # x\nnameserver nonsense\nnameserver 2001:db8::1\nsearch old\nsearch a.example b.example\noptions ndots:1\nsearch\n")
	if !slices.Equal(servers, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}) {
		t.Errorf("the servers are %v", servers)
	}
	if !slices.Equal(search, []string{"a.example", "b.example"}) {
		t.Errorf("the domains are %v", search)
	}
	for name, want := range map[string]string{
		"db": "db.a.example. db.b.example. db.", "db.x": "db.x. db.x.a.example. db.x.b.example.", "db.": "db.",
	} {
		if got := strings.Join(candidates(name, search), " "); got != want {
			t.Errorf("%s is looked up as %s, want %s", name, got, want)
		}
	}
}

func FuzzFiles(f *testing.F) {
	f.Add("127.0.0.1 localhost\n", "nameserver 192.0.2.1\nsearch a b c d e f g h\n", "localhost")
	f.Fuzz(func(t *testing.T, hosts, conf, name string) {
		inHosts(hosts, name)
		_, search := parseResolvConf(conf)
		if len(search) > maxSearch || len(candidates(name, search)) > maxSearch+1 {
			t.Errorf("%q searches %q", conf, search)
		}
	})
}
