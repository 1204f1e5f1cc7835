package hypervisortest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

// RunShares boots a VM with two file system devices, if the driver has them and
// o.Share is there: each must reach the server of its own tag.
func RunShares(t *testing.T, o Options) { suite{o.Guest, o}.shares(t) }

func (s suite) shares(t *testing.T) {
	d := s.o.Driver(t)
	if !d.Capabilities().VhostUserFS {
		if _, err := s.TryNew(t, d, func(c *hypervisor.Config) {
			c.Shares = []hypervisor.Share{{Tag: "one"}}
		}); err == nil {
			t.Error("a driver without file system devices takes a share")
		}
		return
	}
	if s.o.Share == nil {
		t.Fatal("the driver has file system devices, and the test has no server for one")
	}
	dirs := map[string]string{"one": t.TempDir(), "two": t.TempDir()}
	var shares []hypervisor.Share
	for tag, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "host"), []byte("the host's "+tag), 0o644); err != nil {
			t.Fatal(err)
		}
		socket := s.o.Share(t, dir)
		defer socket.Close()
		shares = append(shares, hypervisor.Share{Tag: tag, Socket: socket})
	}
	m := s.boot(t, func(c *hypervisor.Config) { c.Shares = shares })
	for tag, dir := range dirs {
		r := m.MustAsk(t, testguest.Request{Op: testguest.OpShare, Text: tag, Data: []byte("the guest's " + tag)})
		if got, want := string(r.Data), "the host's "+tag; got != want {
			t.Errorf("the guest reads %q of the share %s, want %q", got, tag, want)
		}
		b, err := os.ReadFile(filepath.Join(dir, "guest"))
		if want := "the guest's " + tag; err != nil || string(b) != want {
			t.Errorf("the host reads %q of the share %s, %v, want %q", b, tag, err, want)
		}
	}
	if _, err := m.Ask(testguest.Request{Op: testguest.OpShare, Text: "three"}); err == nil {
		t.Error("the guest mounts a share that is not there")
	}
	m.End(t, testguest.OpPowerOff)
}

// refusesBadShares is a part of refusesBadConfigs for drivers with file system
// devices.
func (s suite) refusesBadShares(t *testing.T) {
	d := s.o.Driver(t)
	if !d.Capabilities().VhostUserFS {
		return
	}
	end, other, err := os.Pipe() // anything that can be passed on
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	defer other.Close()
	for name, shares := range map[string][]hypervisor.Share{
		"no tag":        {{Socket: end}},
		"a long tag":    {{Tag: strings.Repeat("x", 37), Socket: end}},
		"a strange tag": {{Tag: "a,b", Socket: end}},
		"the same tag":  {{Tag: "a", Socket: end}, {Tag: "a", Socket: end}},
		"no socket":     {{Tag: "a"}},
		"too many":      make([]hypervisor.Share, 1000),
	} {
		m, err := s.TryNew(t, d, func(c *hypervisor.Config) { c.Shares = shares })
		if err == nil {
			t.Errorf("%s: no error", name)
			m.Close()
			continue
		}
		if !strings.Contains(err.Error(), "share") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is %q, want one line with share", name, err)
		}
	}
}
