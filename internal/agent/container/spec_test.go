//go:build linux

package container

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"bake/internal/agent/ctrinit"
	"bake/internal/wire"
)

var layout = Layout{
	Rootfs: "/rootfs", Hosts: "/run/bake/hosts", Hostname: "/run/bake/hostname", ResolvConf: "/run/bake/resolv.conf",
	Filesystem: func(string) bool { return true },
	Device:     func(path string) bool { return path == "/dev/fuse" },
}

func TestSpecOfProcess(t *testing.T) {
	for name, c := range map[string]struct {
		p     wire.Process
		a     Account
		check func(*specs.Process) bool
	}{
		"init runs first": {wire.Process{Args: []string{"redis"}}, Account{}, func(p *specs.Process) bool { return slices.Equal(p.Args, []string{ctrinit.Executable}) }},
		"no cwd":          {wire.Process{}, Account{}, func(p *specs.Process) bool { return p.Cwd == "/" }},
		"cwd":             {wire.Process{Cwd: "/a/../b//c/"}, Account{}, func(p *specs.Process) bool { return p.Cwd == "/b/c" }},
		"cwd climbs":      {wire.Process{Cwd: "../../x"}, Account{}, func(p *specs.Process) bool { return p.Cwd == "/x" }},
		"user": {wire.Process{}, Account{UID: 1, GID: 2, Groups: []uint32{3}}, func(p *specs.Process) bool {
			return p.User.UID == 1 && p.User.GID == 2 && slices.Equal(p.User.AdditionalGids, []uint32{2, 3})
		}},
		"no terminal":         {wire.Process{Rows: 5, Cols: 5}, Account{}, func(p *specs.Process) bool { return !p.Terminal && p.ConsoleSize == nil }},
		"terminal":            {wire.Process{Terminal: true, Rows: 5, Cols: 6}, Account{}, func(p *specs.Process) bool { return p.Terminal && *p.ConsoleSize == specs.Box{Height: 5, Width: 6} }},
		"terminal of no size": {wire.Process{Terminal: true}, Account{}, func(p *specs.Process) bool { return p.Terminal && p.ConsoleSize == nil }},
		"all capabilities": {wire.Process{}, Account{UID: 5}, func(p *specs.Process) bool {
			return len(p.Capabilities.Bounding) == 41 && len(p.Capabilities.Ambient) == 0
		}},
		"killed first":        {wire.Process{}, Account{}, func(p *specs.Process) bool { return *p.OOMScoreAdj == 0 }},
		"may gain privileges": {wire.Process{}, Account{}, func(p *specs.Process) bool { return !p.NoNewPrivileges }},
	} {
		s := newSpec(Config{Layout: layout, Hostname: "bakery", Process: c.p}, c.a)
		if !c.check(s.Process) {
			b, _ := json.Marshal(s.Process)
			t.Errorf("%s: %s", name, b)
		}
	}
}

func TestSpecOfGuest(t *testing.T) {
	s := newSpec(Config{Layout: layout, Hostname: "bakery"}, Account{})
	var namespaces []string
	for _, n := range s.Linux.Namespaces {
		namespaces = append(namespaces, string(n.Type))
	}
	slices.Sort(namespaces)
	if diff := cmp.Diff([]string{"cgroup", "ipc", "mount", "pid", "uts"}, namespaces); diff != "" {
		t.Errorf("namespaces: -want +got\n%s", diff)
	}
	if s.Linux.Seccomp != nil || s.Linux.MaskedPaths != nil || s.Linux.ReadonlyPaths != nil || s.Root.Readonly {
		t.Error("the container is confined")
	}
	if s.Hostname != "bakery" || s.Root.Path != "/rootfs" {
		t.Errorf("host name %s, root %s", s.Hostname, s.Root.Path)
	}
	targets := map[string]specs.Mount{}
	for i, m := range s.Mounts {
		targets[m.Destination] = m
		for _, later := range s.Mounts[i+1:] {
			if strings.HasPrefix(m.Destination, later.Destination+"/") {
				t.Errorf("%s is mounted before %s", m.Destination, later.Destination)
			}
		}
		if slices.Contains(m.Options, "ro") {
			t.Errorf("%s is read-only", m.Destination)
		}
	}
	for _, want := range []string{"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		if _, ok := targets[want]; !ok {
			t.Errorf("%s is not mounted", want)
		}
	}
	if _, ok := targets["/tmp"]; ok {
		t.Error("/tmp hides the image's")
	}
	if len(s.Linux.Devices) != 1 || s.Linux.Devices[0].Path != "/dev/fuse" {
		t.Errorf("devices %+v", s.Linux.Devices)
	}

	bare := layout
	bare.Filesystem = func(string) bool { return false }
	for _, m := range newSpec(Config{Layout: bare, Hostname: "x"}, Account{}).Mounts {
		if m.Destination == "/dev/mqueue" {
			t.Error("a filesystem is mounted that the kernel does not know")
		}
	}
}

func TestEnvironment(t *testing.T) {
	a := Account{Home: "/home/baker"}
	path := "PATH=" + defaultPath
	for name, c := range map[string]struct {
		p    wire.Process
		want []string
	}{
		"empty":       {wire.Process{}, []string{path, "HOSTNAME=h", "HOME=/home/baker"}},
		"terminal":    {wire.Process{Terminal: true}, []string{path, "HOSTNAME=h", "TERM=xterm", "HOME=/home/baker"}},
		"given terms": {wire.Process{Terminal: true, Env: []string{"TERM=vt100"}}, []string{path, "HOSTNAME=h", "TERM=vt100", "HOME=/home/baker"}},
		"all given": {wire.Process{Env: []string{"HOME=/", "PATH=/p", "HOSTNAME=x", "A=b=c", "EMPTY="}},
			[]string{"HOME=/", "PATH=/p", "HOSTNAME=x", "A=b=c", "EMPTY="}},
	} {
		got, err := environment(c.p, "h", a)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	for _, bad := range []string{"", "NAME", "=x", "A=b\x00C=d"} {
		if _, err := environment(wire.Process{Env: []string{bad}}, "h", a); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestIsInit(t *testing.T) {
	for args, want := range map[string]bool{
		"/sbin/init": true, "/lib/systemd/systemd": true, "/init": true, "/usr/bin/tini -- redis": true, "dumb-init x": true,
		"sh": false, "/bin/sh -c init": false, "initdb": false, "/etc/init/x": false, "": false,
	} {
		if got := isInit(strings.Fields(args)); got != want {
			t.Errorf("%q: %v", args, got)
		}
	}
}

func TestLastError(t *testing.T) {
	for log, want := range map[string]string{
		"":                                  "",
		`{"level":"warning","msg":"so so"}`: "",
		`{"level":"error","msg":"runc run failed: unable to start container process: error during container init: mkdir /etc/passwd: not a directory"}`: "mkdir /etc/passwd: not a directory",
		"{\"level\":\"error\",\"msg\":\"first\"}\nnoise\n{\"level\":\"info\",\"msg\":\"x\"}\n{\"level\":\"error\",\"msg\":\"second\\nline\"}":           "second line",
	} {
		if got := lastError([]byte(log)); got != want {
			t.Errorf("%s: %q, want %q", log, got, want)
		}
	}
}

func FuzzLastError(f *testing.F) {
	f.Add([]byte(`{"level":"error","msg":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := lastError(b); strings.ContainsAny(s, "\n\t") {
			t.Errorf("%q is not one line", s)
		}
	})
}

func TestVolumesOfTheSpec(t *testing.T) {
	volume := func(target string) specs.Mount {
		return specs.Mount{Destination: target, Type: "bind", Source: "/run/volume" + target, Options: []string{"bind"}}
	}
	cfg := Config{Layout: layout, Volumes: []specs.Mount{volume("/srv/deep/er"), volume("/etc"), volume("/etc/hostname"), volume("/dev/shm")}}
	var got []string
	for _, m := range newSpec(cfg, Account{}).Mounts {
		if m.Type == "bind" {
			got = append(got, m.Destination+" "+m.Source)
		}
	}
	want := []string{
		"/etc /run/volume/etc",
		"/etc/hosts " + layout.Hosts,
		"/etc/resolv.conf " + layout.ResolvConf,
		"/etc/hostname /run/volume/etc/hostname",
		"/dev/shm /run/volume/dev/shm",
		"/srv/deep/er /run/volume/srv/deep/er",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the bind mounts are\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
