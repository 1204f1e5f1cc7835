package unit

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"bake/internal/unit/systemdtest"
	"bake/internal/volume"
)

// settings are those of one section of a unit.
func settings(t *testing.T, data []byte, section string) map[string][]string {
	t.Helper()
	u, err := systemdtest.Parse(data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return u[section]
}

func TestSystemdArguments(t *testing.T) {
	a := sample(slices.Concat(hostile, control)...)
	for _, o := range []SystemdOptions{{}, {User: true}} {
		data, err := Systemd(a, o)
		if err != nil {
			t.Fatal(err)
		}
		start := settings(t, data, "Service")["ExecStart"]
		if len(start) != 1 {
			t.Fatalf("ExecStart %d times", len(start))
		}
		got, err := systemdtest.CommandLine(start[0])
		if err != nil {
			t.Fatal(err)
		}
		if want := append([]string{a.Exe}, wantArgs(a)...); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func FuzzSystemdArgument(f *testing.F) {
	for _, s := range slices.Concat(hostile, control) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return
		}
		line := "/app " + systemdArgument(s)
		if strings.ContainsAny(line, "\n\r") {
			t.Fatalf("%q breaks the line", s)
		}
		got, err := systemdtest.CommandLine(line)
		if err != nil || len(got) != 2 || got[1] != s {
			t.Fatalf("%q became %q: %v", s, got, err)
		}
	})
}

func TestSystemdService(t *testing.T) {
	data, err := Systemd(sample(), SystemdOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := settings(t, data, "Service")
	for name, want := range map[string][]string{
		"Type": {"notify"}, "NotifyAccess": {"main"}, "WatchdogSec": {"60"}, "KillMode": {"mixed"},
		"TimeoutStartSec": {"135"}, "TimeoutStopSec": {"35"}, "SuccessExitStatus": {"143"},
		"Restart": {"always"}, "DevicePolicy": {"closed"}, "DeviceAllow": {"/dev/kvm rw"},
		"ProtectSystem": {"strict"}, "NoNewPrivileges": {"yes"}, "StateDirectory": {"bake"}, "RuntimeDirectory": {"bake"},
		"ReadWritePaths": {"/srv/data"}, "BindReadOnlyPaths": {"/home/me/conf"},
		"CapabilityBoundingSet": {"CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_NET_BIND_SERVICE"},
		"Environment":           {"XDG_RUNTIME_DIR=%t/bake", "XDG_CACHE_HOME=%C/bake", "XDG_DATA_HOME=%S/bake", "XDG_STATE_HOME=%S/bake"},
		// A guest's root may make set-user-ID files in a shared folder.
		"RestrictSUIDSGID": nil, "MemoryDenyWriteExecute": nil, "PrivateDevices": nil,
	} {
		if !slices.Equal(got[name], want) {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if limit := settings(t, data, "Unit")["StartLimitIntervalSec"]; !slices.Equal(limit, []string{"0"}) {
		t.Errorf("StartLimitIntervalSec is %q", limit)
	}
}

// TestSystemdLeast is an app that needs nothing.
func TestSystemdLeast(t *testing.T) {
	a := App{Exe: "/usr/local/bin/app", Title: "x\nExecStart=/bad %n", Name: "app", Restart: Restart{OnFailure: true, Max: 3}}
	data, err := Systemd(a, SystemdOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := settings(t, data, "Service")
	if c := got["CapabilityBoundingSet"]; !slices.Equal(c, []string{""}) {
		t.Errorf("capabilities %q", c)
	}
	if len(got["ExecStart"]) != 1 || got["RestrictSUIDSGID"] == nil || got["ReadWritePaths"] != nil {
		t.Errorf("got %q", got)
	}
	unit := settings(t, data, "Unit")
	if d := unit["Description"][0]; d != "x?ExecStart=/bad %%n in a microVM" {
		t.Errorf("the description is %q", d)
	}
	if unit["StartLimitBurst"][0] != "4" {
		t.Errorf("got %q", unit)
	}
}

func TestSystemdPaths(t *testing.T) {
	a := sample()
	a.Exe = "/root/my app"
	a.InitScript = true
	a.Reads = []string{"/etc/wg.conf", "/home/me/wg.conf"}
	a.Volumes = []Volume{
		{volume.Spec{Kind: volume.KindShare, Host: "/home/a", ReadOnly: true}, ""},
		{volume.Spec{Kind: volume.KindShare, Host: "/home/a"}, ""}, // written after all
		{volume.Spec{Kind: volume.KindShare, Host: "/srv/new dir", Create: true}, ""},
		{volume.Spec{Kind: volume.KindImage, Host: "/dev/sdb1", ReadOnly: true}, ""},
	}
	data, err := Systemd(a, SystemdOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := settings(t, data, "Service")
	for name, want := range map[string][]string{
		"BindPaths":         {"/home/a"},
		"BindReadOnlyPaths": {`"/root/my app"`, "/home/me/wg.conf"},
		"ReadWritePaths":    {`"/srv/new dir"`},
		"DeviceAllow":       {"/dev/kvm rw", "/dev/sdb1 r"},
		"ExecStartPre":      {`+/bin/mkdir -p -- "/srv/new dir"`},
		"NotifyAccess":      {"all"},
	} {
		if !slices.Equal(got[name], want) {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	a.Exe = "/home/a:b/app"
	if _, err := Systemd(a, SystemdOptions{}); err == nil || !strings.Contains(err.Error(), "colon") {
		t.Errorf("a colon: %v", err)
	}
	a.Exe = "/opt/it's"
	if _, err := Systemd(a, SystemdOptions{}); err == nil || !strings.Contains(err.Error(), "quotes") {
		t.Errorf("a quote: %v", err)
	}
	a = sample(strings.Repeat("x", 1<<20))
	if _, err := Systemd(a, SystemdOptions{}); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a long line: %v", err)
	}
}
