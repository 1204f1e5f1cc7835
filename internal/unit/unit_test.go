package unit

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/service/forward"
	"bake/internal/volume"
)

// hostile are arguments that mean something to one format or another.
var hostile = []string{
	"", " ", "two words", "  led and trailed  ", `"`, `'`, `it's "quoted"`, `\`, `\\n`, `C:\new`, "line\nbreak", "\r\n", "tab\there",
	"%", "%n", "%%", "100%", "$", "$$", "$HOME", "${HOME}", "$${HOME}", "a$b${c}d", "$(id)", "%{if}", "%%{x}", "`id`",
	";", "#", "; rm", "# no comment", "a;b", "@-:+!|", "--", "-", "--flag=value", "=", "[section]", "yes", "no", "null", "~", "1e3", "0x1",
	"2001-01-01", "- item", "key: value", "{}", "[]", "&a", "*a", "!tag", "|", ">", "<a>&amp;</a>", "]]>", "<!--", "/* x */", "//", "<<EOF",
	"grüße, 世界", "🙂", "\u00a0", "\u2028", "\u2029", "\ufeff", "\x7f", "\u0085", "trailing\\", "trailing space ", strings.Repeat("x", 1500),
}

// control are those that XML has no way to write.
var control = []string{"\x01", "\x1b[31m", "\x00"[:0] + "\a\b\v\f", "\u009b"}

// sample is an app with one of all that matters.
func sample(command ...string) App {
	return App{
		Exe: "/opt/bake apps/redis 100%", Title: "docker.io/library/redis:7", Name: "Redis_1.elf",
		Flags: []string{
			"--memory=512", "--publish=0.0.0.0:80:6379", "--publish=53/udp", "--volume=/srv/data:/data", "--volume=/home/me/conf:/conf:ro",
			"--volume=db:/db", "--restart=always", "--detach=true", "--env=A=$B %c \"d\"",
		},
		Command:     command,
		StopTimeout: 20 * time.Second, BootTimeout: 2 * time.Minute, Restart: Restart{Always: true}, StopStatus: 143,
		Ports: []forward.Port{
			{Proto: forward.TCP, Host: netip.IPv4Unspecified(), First: 80, Last: 80, VMPort: 6379},
			{Proto: forward.UDP, Host: netip.MustParseAddr("127.0.0.1"), VMPort: 53},
		},
		Volumes: []Volume{
			{volume.Spec{Kind: volume.KindShare, Host: "/srv/data", Target: "/data"}, "/srv/data:/data"},
			{volume.Spec{Kind: volume.KindShare, Host: "/home/me/conf", Target: "/conf", ReadOnly: true}, "/home/me/conf:/conf:ro"},
			{volume.Spec{Kind: volume.KindNamed, Name: "db", Target: "/db"}, "db:/db"},
		},
		MemoryMiB: 512, CPUs: 2,
	}
}

// wantArgs are the app's arguments under a service manager.
func wantArgs(a App) []string {
	want := slices.DeleteFunc(slices.Clone(a.Flags), func(f string) bool {
		return strings.HasPrefix(f, "--restart=") || strings.HasPrefix(f, "--detach=")
	})
	if len(a.Command) > 0 {
		want = append(append(want, "--"), a.Command...)
	}
	return want
}

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*App){
		"absolute":   func(a *App) { a.Exe = "app" },
		"not UTF-8":  func(a *App) { a.Command = []string{"\xff"} },
		"NUL":        func(a *App) { a.Flags = append(a.Flags, "--env=A=\x00") },
		"not UTF-8 ": func(a *App) { a.Title = "\xc3" },
	} {
		a := sample()
		change(&a)
		for format, write := range map[string]func(App) ([]byte, error){
			"systemd":    func(a App) ([]byte, error) { return Systemd(a, SystemdOptions{}) },
			"launchd":    func(a App) ([]byte, error) { return Launchd(a, LaunchdOptions{Daemon: true}) },
			"kubernetes": func(a App) ([]byte, error) { return Kubernetes(a, KubernetesOptions{Kind: KindPod, Image: "x"}) },
			"nomad":      func(a App) ([]byte, error) { return Nomad(a, NomadOptions{}) },
		} {
			if _, err := write(a); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
				t.Errorf("%s, %s: %v", format, name, err)
			}
		}
	}
}

func TestLabel(t *testing.T) {
	for name, want := range map[string]string{
		"redis": "redis", "Redis_1.elf": "redis-1-elf", "--x--": "x", "世界": "app", "": "app",
		strings.Repeat("a", 49) + ".b": strings.Repeat("a", 49),
	} {
		if got := label(name); got != want {
			t.Errorf("label(%q) = %q, want %q", name, got, want)
		}
	}
}
