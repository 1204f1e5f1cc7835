package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestManifestRoundTrip(t *testing.T) {
	m := testManifest()
	b, err := EncodeManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Error(diff)
	}
	if again, err := EncodeManifest(got); err != nil || !bytes.Equal(b, again) {
		t.Errorf("encoding is not stable: %v", err)
	}
	if !bytes.Contains(b, []byte("<&>")) {
		t.Error("the JSON hides < and & behind escapes")
	}
	minimal := &Manifest{Version: 2, Target: Target{"linux", "arm64"}, Rootfs: Rootfs{"ext4"}}
	b, err = EncodeManifest(minimal)
	if want := `{"version":2,"target":{"os":"linux","arch":"arm64"},"rootfs":{"type":"ext4"}}` + "\n"; err != nil || string(b) != want {
		t.Errorf("minimal manifest is %s, %v; want %s", b, err, want)
	}
	minimal.Network = Network{Allow: []string{"example.com:443"}, Deny: []string{"10.0.0.0/8"}, HostLoopback: true, Disabled: true}
	b, err = EncodeManifest(minimal)
	if want := `"network":{"allow":["example.com:443"],"deny":["10.0.0.0/8"],"hostLoopback":true,"disabled":true}}`; err != nil || !strings.Contains(string(b), want) {
		t.Errorf("the network is in %s, %v; want %s", b, err, want)
	}
}

// Apps that were built before there was a network policy still run: as having none.
func TestFirstManifestVersion(t *testing.T) {
	m, err := DecodeManifest([]byte(`{"version":1,"target":{"os":"linux","arch":"arm64"},"rootfs":{"type":"ext4"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Manifest{Version: 1, Target: Target{"linux", "arm64"}, Rootfs: Rootfs{"ext4"}}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	_, err = DecodeManifest([]byte(`{"version":1,"target":{"os":"linux","arch":"arm64"},"rootfs":{"type":"ext4"},"network":{"disabled":true}}`))
	wantError(t, err, "network is in version 1")
}

// Nor do those that were built before there was a test of health have one.
func TestSecondManifestVersion(t *testing.T) {
	_, err := DecodeManifest([]byte(`{"version":2,"target":{"os":"linux","arch":"arm64"},"rootfs":{"type":"ext4"},"process":{"healthcheck":{}}}`))
	wantError(t, err, "healthcheck is in version 2")
}

func TestHealthcheck(t *testing.T) {
	for name, tt := range map[string]struct {
		h    Healthcheck
		want string // of the error; empty is none
	}{
		"nothing":        {Healthcheck{}, ""},
		"none":           {Healthcheck{Test: []string{"NONE"}}, ""},
		"a program":      {Healthcheck{Test: []string{"CMD", "a", "b", "c"}, Timeout: time.Hour}, ""},
		"a line":         {Healthcheck{Test: []string{"CMD-SHELL", "a | b"}}, ""},
		"no program":     {Healthcheck{Test: []string{"CMD"}}, "no test"},
		"no line":        {Healthcheck{Test: []string{"CMD-SHELL"}}, "no test"},
		"two lines":      {Healthcheck{Test: []string{"CMD-SHELL", "a", "b"}}, "no test"},
		"another word":   {Healthcheck{Test: []string{"curl", "x"}}, `begins with "curl"`},
		"a NUL byte":     {Healthcheck{Test: []string{"CMD", "a\x00"}}, "NUL"},
		"before it was":  {Healthcheck{Interval: -time.Second}, "healthcheck.interval"},
		"all too often":  {Healthcheck{StartInterval: time.Microsecond}, "healthcheck.startInterval"},
		"failing upward": {Healthcheck{Retries: -1}, "healthcheck.retries"},
	} {
		m := testManifest()
		m.Process.Healthcheck = &tt.h
		err := m.Validate()
		if tt.want == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if tt.want != "" {
			wantError(t, err, tt.want)
		}
	}
}

func TestManifestRefuses(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, test := range []struct {
		name   string
		change func(*Manifest)
		want   string
	}{
		{"version", func(m *Manifest) { m.Version = 0 }, "version is 0"},
		{"os", func(m *Manifest) { m.Target.OS = "plan9" }, "target.os"},
		{"arch", func(m *Manifest) { m.Target.Arch = "" }, "target.arch"},
		{"bake version", func(m *Manifest) { m.BakeVersion = long(257) }, "bakeVersion is 257 bytes"},
		{"ref", func(m *Manifest) { m.Image.Ref = long(1025) }, "image.ref"},
		{"digest", func(m *Manifest) { m.Image.Digest = "md5:1" }, "image.digest"},
		{"layer", func(m *Manifest) { m.Image.Layers = []string{""} }, "image.layers[0]"},
		{"layers", func(m *Manifest) { m.Image.Layers = make([]string, 513) }, "image.layers has 513"},
		{"rootfs", func(m *Manifest) { m.Rootfs.Type = "zfs" }, "rootfs.type"},
		{"argument", func(m *Manifest) { m.Process.Args = []string{"ok", long(128<<10 + 1)} }, "process.args[1]"},
		{"NUL", func(m *Manifest) { m.Process.Cmd = []string{"a\x00b"} }, "NUL byte"},
		{"not UTF-8", func(m *Manifest) { m.Process.Entrypoint = []string{"\xff"} }, "not UTF-8"},
		{"many arguments", func(m *Manifest) { m.Process.Cmd = make([]string, 4097) }, "process.cmd has 4097"},
		{"environment", func(m *Manifest) { m.Process.Env = []string{"NOVALUE"} }, "NAME=VALUE"},
		{"environment without name", func(m *Manifest) { m.Process.Env = []string{"=x"} }, "NAME=VALUE"},
		{"cwd", func(m *Manifest) { m.Process.Cwd = "data" }, "absolute"},
		{"long cwd", func(m *Manifest) { m.Process.Cwd = "/" + long(4096) }, "process.cwd is 4097"},
		{"user", func(m *Manifest) { m.Process.User = long(257) }, "process.user"},
		{"signal", func(m *Manifest) { m.Process.StopSignal = "sig term" }, "process.stopSignal"},
		{"port", func(m *Manifest) { m.Process.ExposedPorts = []string{"http"} }, "process.exposedPorts[0]"},
		{"label", func(m *Manifest) { m.Process.Labels = map[string]string{"a": long(64<<10 + 1)} }, "process.labels"},
		{"label key", func(m *Manifest) { m.Process.Labels = map[string]string{long(1025): ""} }, "process.labels"},
		{"kernel hash", func(m *Manifest) { m.Kernel.SHA256 = "abc" }, "kernel.sha256"},
		{"kernel arch", func(m *Manifest) { m.Kernel.Arch = "mips" }, "kernel.arch"},
		{"vmm", func(m *Manifest) { m.VMM.Kind = "xen" }, "vmm.kind"},
		{"entry outside", func(m *Manifest) { m.VMM.Entry = "../bin/sh" }, "vmm.entry"},
		{"absolute entry", func(m *Manifest) { m.VMM.Entry = "/bin/sh" }, "vmm.entry"},
		{"cpus", func(m *Manifest) { m.Defaults.CPUs = -1 }, "defaults.cpus"},
		{"memory", func(m *Manifest) { m.Defaults.MemoryMiB = 1 << 40 }, "defaults.memoryMiB"},
		{"boot arguments", func(m *Manifest) { m.Defaults.BootArgs = long(2049) }, "defaults.bootArgs"},
		{"hypervisor", func(m *Manifest) { m.Defaults.Hypervisor = "a b" }, "defaults.hypervisor"},
		{"network rule", func(m *Manifest) { m.Network.Allow = []string{"a", long(1025)} }, "network.allow[1] is 1025"},
		{"empty network rule", func(m *Manifest) { m.Network.Deny = []string{""} }, "network.deny[0] is empty"},
		{"network rules", func(m *Manifest) { m.Network.Deny = make([]string, 1025) }, "network.deny has 1025"},
		{"network before its version", func(m *Manifest) { m.Version, m.Process.Healthcheck = 1, nil }, "network is in version 1"},
		{"version 4", func(m *Manifest) { m.Version = 4 }, "version is 4"},
		{"too long in all", func(m *Manifest) {
			for range 20 {
				m.Process.Cmd = append(m.Process.Cmd, long(100<<10))
			}
		}, "more than 1048576"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := testManifest()
			test.change(m)
			_, err := EncodeManifest(m)
			wantError(t, err, test.want)
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
			b, jsonErr := json.Marshal(m)
			if jsonErr != nil {
				t.Fatal(jsonErr)
			}
			if _, err := DecodeManifest(b); err == nil && test.name != "not UTF-8" { // JSON replaces it
				t.Error("read though it could not be written")
			}
		})
	}
	for _, test := range []struct{ name, json, want string }{
		{"empty", ``, "not JSON"},
		{"not an object", `[]`, "not JSON"},
		{"unknown field", `{"version":1,"surprise":1}`, "surprise"},
		{"wrong type", `{"version":1,"target":7}`, "not as bake writes it"},
		{"two", `{"version":1,"target":{"os":"linux","arch":"arm64"},"rootfs":{"type":"ext4"}} {}`, "after top-level value"},
		{"no version", `{}`, "version is 0"},
		{"negative uid", `{"version":1,"process":{"uid":-1}}`, "not as bake writes it"},
		{"oversized", strings.Repeat(" ", MaxManifestSize+1), "more than 1048576"},
		{"deep", strings.Repeat("[", 100_000), "not JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := DecodeManifest([]byte(test.json))
			wantError(t, err, test.want)
		})
	}
	if _, err := DecodeManifest([]byte(`{"version":4,"anything":["new"]}`)); !errors.Is(err, ErrNewer) {
		t.Errorf("%v is not ErrNewer", err)
	}
}

// FuzzDecodeManifest: what is read can be written and is then read as the same.
func FuzzDecodeManifest(f *testing.F) {
	b, err := EncodeManifest(testManifest())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"target":{"os":"linux","arch":"arm64"},"rootfs":{"type":"ext4"}}`))
	f.Add([]byte(`{"version":2,"target":{"os":"linux","arch":"arm64"},"rootfs":{"type":"ext4"},"network":{"allow":["a"],"disabled":true}}`))
	f.Add([]byte(`{"version":3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		again, err := EncodeManifest(m)
		if err != nil {
			if strings.Contains(err.Error(), "the manifest would be") {
				return // JSON that was denser than ours
			}
			t.Fatal(err)
		}
		other, err := DecodeManifest(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, other, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}
