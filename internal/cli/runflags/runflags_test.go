package runflags

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"bake/internal/app"
	"bake/internal/payload"
)

func parse(t *testing.T, def payload.Defaults, args ...string) (*pflag.FlagSet, *Flags) {
	t.Helper()
	fs := pflag.NewFlagSet("app", pflag.ContinueOnError)
	f := Register(fs, def)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs, f
}

func TestOptions(t *testing.T) {
	_, f := parse(t, payload.Defaults{MemoryMiB: 512, CPUs: 3}, "--cwd=", "-e", "A=1", "-p", "80:81", "--stop-timeout=90s", "--uid=0")
	o, err := f.Options([]string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	if o.MemoryMiB != 512 || o.CPUs != 3 || o.EphemeralDiskMiB != app.DefaultEphemeralDiskMiB || o.StopTimeout != 90*time.Second {
		t.Errorf("got %+v", o)
	}
	if o.Cwd == nil || *o.Cwd != "" || o.UID == nil || *o.UID != 0 || o.GID != nil || o.Entrypoint != nil {
		t.Errorf("what was given is not told from what was not: %+v", o)
	}
	if len(o.Publish) != 1 || o.Publish[0].VMPort != 81 || !reflect.DeepEqual(o.Args, []string{"x"}) {
		t.Errorf("got %+v", o)
	}
}

func TestBadOptions(t *testing.T) {
	for arg, want := range map[string]string{
		"--memory=x":              "--memory",
		"--ephemeral-disk-size=0": "--ephemeral-disk-size",
		"--cpus=-1":               "--cpus",
		"--stop-timeout=-5s":      "--stop-timeout",
		"--boot-timeout=soon":     "--boot-timeout",
		"--publish=80":            "--publish",
		"--tty --no-tty":          "contradict",
	} {
		_, f := parse(t, payload.Defaults{}, strings.Fields(arg)...)
		if _, err := f.Options(nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", arg, err, want)
		}
	}
}

func TestWireGuard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "office.conf")
	if err := os.WriteFile(path, []byte("[Interface]\nPrivateKey = SKOslwyMv1Df2D0vxSWJo2IDUdHlpXfhYaj55ep3NVw=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, f := parse(t, payload.Defaults{}, "--wireguard-conf-file", path)
	o, err := f.Options(nil)
	if err != nil || o.WireGuard == nil || o.WireGuard.Tunnel.Name != "office" {
		t.Errorf("got %+v, %v", o.WireGuard, err)
	}
	_, f = parse(t, payload.Defaults{})
	if o, err := f.Options(nil); err != nil || o.WireGuard != nil {
		t.Errorf("without the flag: %+v, %v", o.WireGuard, err)
	}
	for _, bad := range []string{"", path + ".not"} {
		_, f := parse(t, payload.Defaults{}, "--wireguard-conf-file="+bad)
		if _, err := f.Options(nil); err == nil || !strings.Contains(err.Error(), "WireGuard configuration") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// What bake run was given reaches the app as it was given.
func TestArgsRoundTrip(t *testing.T) {
	given := []string{"--cpus=2", "-e", "A=1,2", "--env", "B=x y", "-t", "--boot-args=a b", "--entrypoint="}
	fs, f := parse(t, payload.Defaults{}, given...)
	want, err := f.Options([]string{"c"})
	if err != nil {
		t.Fatal(err)
	}
	_, again := parse(t, payload.Defaults{}, Args(fs, "verbose")...)
	got, err := again.Options([]string{"c"})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}
