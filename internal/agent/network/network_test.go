//go:build linux

package network

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckHostname(t *testing.T) {
	for _, good := range []string{"a", "redis-1", "a.b_C9", strings.Repeat("x", 64)} {
		if err := CheckHostname(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", 65), "a b", "a\nb", "ä", "a/b", "x\x00"} {
		if err := CheckHostname(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestWriteFiles(t *testing.T) {
	dir := t.TempDir()
	hosts, hostname := filepath.Join(dir, "hosts"), filepath.Join(dir, "hostname")
	if err := WriteFiles(hosts, hostname, "bakery"); err != nil {
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
	if names["localhost"] != "127.0.0.1 ::1 " || names["bakery"] != "127.0.0.1 ::1 " {
		t.Errorf("the names are %v", names)
	}
	if b, err := os.ReadFile(hostname); err != nil || string(b) != "bakery\n" {
		t.Errorf("the host name is %q, %v", b, err)
	}
	if err := WriteFiles(filepath.Join(dir, "no/such"), hostname, "x"); err == nil {
		t.Error("a missing directory is no error")
	}
}
