//go:build linux

package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/wire"
)

func TestWriteHosts(t *testing.T) {
	dir := t.TempDir()
	hosts, hostname := filepath.Join(dir, "hosts"), filepath.Join(dir, "hostname")
	if err := WriteHosts(hosts, hostname, "bakery", []wire.HostEntry{
		{Name: "db.example", Addr: netip.MustParseAddr("192.0.2.7")},
		{Name: wire.HostName, Addr: netip.MustParseAddr("fd62:616b:6500::2")},
	}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(hosts)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		for _, n := range f[1:] {
			names[n] += f[0] + " "
		}
	}
	for name, want := range map[string]string{
		"localhost": "127.0.0.1 ::1 ", "bakery": "127.0.0.1 ::1 ", "db.example": "192.0.2.7 ", wire.HostName: "fd62:616b:6500::2 ",
	} {
		if names[name] != want {
			t.Errorf("%s is %q, want %q", name, names[name], want)
		}
	}
	if b, err := os.ReadFile(hostname); err != nil || string(b) != "bakery\n" {
		t.Errorf("the host name is %q, %v", b, err)
	}
	if err := WriteHosts(filepath.Join(dir, "no/such"), hostname, "x", nil); err == nil {
		t.Error("a missing directory is no error")
	}
}

func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	first := &wire.Resolver{
		Nameservers: []netip.Addr{netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("fd00::1")},
		Search:      []string{"a.example", "b.example"}, Options: []string{"ndots:2", "edns0"},
	}
	c, err := WriteResolvConf(path, first)
	if err != nil {
		t.Fatal(err)
	}
	// The container's mount holds the file itself.
	held, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	before, err := held.Stat()
	if err != nil {
		t.Fatal(err)
	}
	says := func(want string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(string(b)) {
			if !strings.HasPrefix(line, "#") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		if got := strings.Join(lines, "; "); got != want {
			t.Errorf("the file says %q, want %q", got, want)
		}
	}
	says("nameserver 198.18.0.2; nameserver fd00::1; search a.example b.example; options ndots:2 edns0")
	update := func(r *wire.Resolver) {
		t.Helper()
		if err := c.Update(r); err != nil {
			t.Fatal(err)
		}
	}
	update(&wire.Resolver{Nameservers: first.Nameservers[:1]})
	says("nameserver 198.18.0.2")
	update(first)
	says("nameserver 198.18.0.2; nameserver fd00::1; search a.example b.example; options ndots:2 edns0")
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file became another one: %v", err)
	}
	if err := os.WriteFile(path, []byte("nameserver 192.0.2.1\n"), 0); err != nil {
		t.Fatal(err)
	}
	update(&wire.Resolver{Nameservers: first.Nameservers[:1]})
	says("nameserver 192.0.2.1")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := c.Update(first); err == nil {
		t.Error("a file that is gone is no error")
	}
	if _, err := WriteResolvConf(path, nil); err != nil {
		t.Fatal(err)
	}
	says("options timeout:1 attempts:1")
}
