package runflags

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"bake/internal/app"
	"bake/internal/payload"
	"bake/internal/policy"
	"bake/internal/service/forward"
	"bake/internal/volume"
	"bake/internal/wire"
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
		"--memory=x":                              "--memory",
		"--ephemeral-disk-size=0":                 "--ephemeral-disk-size",
		"--cpus=-1":                               "--cpus",
		"--stop-timeout=-5s":                      "--stop-timeout",
		"--boot-timeout=soon":                     "--boot-timeout",
		"--publish=80:http":                       "--publish",
		"-p 80:1 -p 80:2":                         "same port 80",
		"-p 1-1000:1-1000 -p 5":                   "at most 1000",
		"--publish-proxy-protocol=v3":             "--publish-proxy-protocol",
		"--publish-proxy-protocol=":               "--publish-proxy-protocol",
		"--tty --no-tty":                          "contradict",
		"--allow-net=a/b":                         "--allow-net",
		"--deny-net=a..b":                         "--deny-net",
		"--allow-net=127.0.0.1":                   "--allow-host-loopback",
		"--dns=dns.example":                       "--dns",
		"--dns-search=a..b":                       "--dns-search",
		"--dns-option=ndots:2#":                   "--dns-option",
		"--add-host=db":                           "--add-host",
		"--dns=::1 --dns=::1 --dns=::1 --dns=::1": "4 times",
		"--proxy=ftp://x":                         "--proxy",
		"--proxy=":                                "--proxy",
		"-v data":                                 "HOST:CONTAINER",
		"-v ./a:/a:what":                          "what",
		"--tmpfs=tmp":                             "tmpfs",
		"--volume-mode=nfs":                       "--volume-mode",
		"--name=":                                 "--name",
		"--name=-x":                               "--name",
		"--restart=never":                         "--restart",
		"--health-cmd=":                           "--health-cmd",
		"--health-interval=soon":                  "--health-interval",
		"--health-timeout=1us":                    "--health-timeout",
		"--health-start-period=-1s":               "--health-start-period",
		"--health-retries=-1":                     "--health-retries",
		"--health-retries=1 --no-healthcheck":     "--no-healthcheck",
		"--no-ssh --ssh-sock-path=s":              "--no-ssh",
		"--ssh-sock-path=":                        "--ssh-sock-path",
		"--ssh-sock-path=s --ssh-script-path=s":   "same file",
	} {
		_, f := parse(t, payload.Defaults{}, strings.Fields(arg)...)
		if _, err := f.Options(nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", arg, err, want)
		}
	}
}

func TestNetwork(t *testing.T) {
	for args, want := range map[string]struct {
		rules   policy.Rules
		hostnet bool
	}{
		"":                                         {},
		"--allow-net=a --allow-net b,c.d":          {},
		"--allow-net=a --allow-net=*.b:1":          {rules: policy.Rules{Allow: []string{"a", "*.b:1"}}},
		"--deny-net=a --disable-hostnet":           {rules: policy.Rules{Deny: []string{"a"}, Disabled: true}},
		"--disable-hostnet=false":                  {hostnet: true},
		"--allow-host-loopback":                    {rules: policy.Rules{HostLoopback: true}},
		"--allow-host-loopback=false --deny-net=a": {rules: policy.Rules{Deny: []string{"a", "host.bake.internal"}}},
	} {
		_, f := parse(t, payload.Defaults{}, strings.Fields(args)...)
		o, err := f.Options(nil)
		if strings.Contains(args, ",") {
			if err == nil {
				t.Errorf("%s: is taken as %+v", args, o.Network)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(o.Network, want.rules) || o.Hostnet != want.hostnet {
			t.Errorf("%s: %+v, %v, %v", args, o.Network, o.Hostnet, err)
		}
	}
}

func TestPublish(t *testing.T) {
	_, f := parse(t, payload.Defaults{}, "-p", "8000-8001:80-81", "-p", "53/udp")
	o, err := f.Options(nil)
	if err != nil || len(o.Publish) != 3 || o.Publish[1].First != 8001 || o.Publish[2].Proto != forward.UDP || o.PublishAll || o.ProxyProtocol != forward.ProxyNone {
		t.Errorf("got %+v, %v", o, err)
	}
	for arg, want := range map[string]forward.ProxyProtocol{
		"--publish-proxy-protocol": forward.ProxyV2, "--publish-proxy-protocol=v1": forward.ProxyV1, "--publish-proxy-protocol=v2": forward.ProxyV2,
	} {
		_, f := parse(t, payload.Defaults{}, arg, "-P")
		if o, err := f.Options(nil); err != nil || o.ProxyProtocol != want || !o.PublishAll {
			t.Errorf("%s: %+v, %v", arg, o, err)
		}
	}
}

func TestVolumes(t *testing.T) {
	_, f := parse(t, payload.Defaults{}, "-v", "./d:/d:ro,uid=0", "--volume=data:/data", "--tmpfs", "/t:64m", "--volume-mode", "9p")
	o, err := f.Options(nil)
	if err != nil || len(o.Volumes) != 3 {
		t.Fatalf("got %+v, %v", o.Volumes, err)
	}
	d, data, tmpfs := o.Volumes[0], o.Volumes[1], o.Volumes[2]
	if d.Kind != volume.KindShare || !d.ReadOnly || *d.UID != 0 || d.Mode != app.VolumeMode9P {
		t.Errorf("the folder is %+v", d)
	}
	if data.Kind != volume.KindNamed || data.Name != "data" || data.Mode != "" || tmpfs.Kind != volume.KindTmpfs || tmpfs.Size != 64<<20 {
		t.Errorf("the others are %+v and %+v", data, tmpfs)
	}
	_, f = parse(t, payload.Defaults{}, "-v", "./d:/d")
	if o, err := f.Options(nil); err != nil || o.Volumes[0].Mode != "" {
		t.Errorf("without a mode: %+v, %v", o.Volumes, err)
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

func TestProxy(t *testing.T) {
	t.Setenv("BAKE_PROXY", "socks5h://user:secret@127.0.0.1:1080")
	_, f := parse(t, payload.Defaults{})
	if o, err := f.Options(nil); err != nil || !o.Proxy.ResolvesNames() {
		t.Errorf("BAKE_PROXY: %v, %v", o.Proxy, err)
	}
	_, f = parse(t, payload.Defaults{}, "--proxy=socks5://127.0.0.1:1080")
	if o, err := f.Options(nil); err != nil || o.Proxy == nil || o.Proxy.ResolvesNames() {
		t.Errorf("--proxy: %v, %v", o.Proxy, err)
	}
	t.Setenv("BAKE_PROXY", "user:secret@127.0.0.1:1080")
	_, f = parse(t, payload.Defaults{})
	if _, err := f.Options(nil); err == nil || !strings.Contains(err.Error(), "BAKE_PROXY") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a bad BAKE_PROXY: %v", err)
	}
	t.Setenv("BAKE_PROXY", "")
	_, f = parse(t, payload.Defaults{})
	if o, err := f.Options(nil); err != nil || o.Proxy != nil {
		t.Errorf("no proxy: %v, %v", o.Proxy, err)
	}
}

// What bake run was given reaches the app as it was given.
func TestArgsRoundTrip(t *testing.T) {
	given := []string{"--dns=192.0.2.53", "--dns=[2001:db8::53]:5353", "--dns-search=a.example", "--dns-search", "b.example", "--dns-option=ndots:2",
		"--add-host=db:192.0.2.7", "--add-host=six:2001:db8::7", "--add-host=me:host-gateway",

		"--allow-net=[2001:db8::/32]:443/tcp", "--allow-net", "*.example.com", "--deny-net=a:1-2", "--allow-host-loopback", "--disable-hostnet=false", "-P", "-p", "80-81:1-2/udp", "--publish-proxy-protocol", "--cpus=2", "-e", "A=1,2", "--env", "B=x y", "-v", "./a b:/c:ro,uid=1", "-v=data:/d", "--tmpfs=/t:size=64m,mode=1777", "--volume-mode=virtiofs", "-t", "--boot-args=a b", "--entrypoint=",
		"-d", "--name=web.1", "--rm=false", "--restart=on-failure:3", "--health-cmd=test -e /up || exit 1", "--health-interval=500ms", "--health-retries=2",
		"--ssh-private-key-path=a b", "--ssh-sock-path", "s", "--no-ssh=false"}
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

func TestNames(t *testing.T) {
	_, f := parse(t, payload.Defaults{}, "--dns=192.0.2.53", "--dns=[2001:db8::53]:5353", "--dns-search=.", "--dns-option=use-vc", "--add-host=db:::1", "--add-host=me:host-gateway")
	o, err := f.Options(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("[2001:db8::53]:5353")}; !reflect.DeepEqual(o.DNS, want) {
		t.Errorf("--dns: %v", o.DNS)
	}
	if !reflect.DeepEqual(o.DNSSearch, []string{"."}) || !reflect.DeepEqual(o.DNSOptions, []string{"use-vc"}) {
		t.Errorf("--dns-search: %q, --dns-option: %q", o.DNSSearch, o.DNSOptions)
	}
	if want := []wire.HostEntry{{Name: "db", Addr: netip.IPv6Loopback()}, {Name: "me", Addr: netip.MustParseAddr("198.18.0.2")}}; !reflect.DeepEqual(o.AddHosts, want) {
		t.Errorf("--add-host: %v", o.AddHosts)
	}
	_, f = parse(t, payload.Defaults{})
	if o, err := f.Options(nil); err != nil || o.DNS != nil || o.DNSSearch != nil || o.DNSOptions != nil || o.AddHosts != nil {
		t.Errorf("without flags: %+v, %v", o, err)
	}
}
