package instancecmd

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/instance"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// some are instances in every state.
func some() []row {
	running := func(name string, up time.Duration) row {
		return row{Instance: instance.Instance{Info: instance.Info{
			ID: "0123456789abcdef", Name: name, PID: 1234, Image: "docker.io/library/redis:7", Digest: "sha256:" + strings.Repeat("d", 64),
			Command: []string{"redis-server", "--save", "60 1"}, Hypervisor: "qemu", Started: noon.Add(-up), State: instance.StateRunning,
		}}}
	}
	rows := []row{running("up", 5*time.Minute), running("ill", 3*time.Hour), running("new", time.Second/2), running("again", 0), running("done", time.Hour), running("evil", 49*time.Hour)}
	rows[0].Health = "healthy"
	rows[0].Ports = []instance.Port{{Host: "127.0.0.1:6379", Guest: 6379, Proto: "tcp"}, {Host: "[::1]:53", Guest: 53, Proto: "udp"}}
	rows[1].Health = "unhealthy"
	rows[2].Health = "starting"
	rows[2].Image, rows[2].Exe = "", "/opt/my app"
	rows[3].State = instance.StateRestarting
	rows[4].State, rows[4].PID = instance.StateExited, 0
	finished := noon.Add(-10 * time.Second)
	rows[4].Exit, rows[4].Finished = &instance.Exit{Code: 137}, &finished
	rows[5].Image, rows[5].Command = "a\x1b[31m\tb\n", []string{"sh", "-c", "\x00\u202e\r"}
	return rows
}

func TestPsTable(t *testing.T) {
	var b bytes.Buffer
	if err := printTable(&b, some(), noon, false); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"ID             NAME    PID    IMAGE                       COMMAND                  STATUS                                          PORTS                                            HYPERVISOR\n" +
		"0123456789ab   up      1234   docker.io/library/redis:7   \"redis-server --save…\"   Up 5 minutes (healthy)                          127.0.0.1:6379->6379/tcp, [::1]:53->53/udp       qemu\n"
	for i, line := range slices.Collect(strings.Lines(b.String())) {
		if i < 2 {
			w := slices.Collect(strings.Lines(want))[i]
			if strings.Join(strings.Fields(line), " ") != strings.Join(strings.Fields(w), " ") {
				t.Errorf("line %d is\n%swant\n%s", i, line, w)
			}
		}
		for _, r := range strings.TrimSuffix(line, "\n") {
			if r < ' ' || r == 0x7f || r == 0x202e {
				t.Errorf("line %d has %U: %q", i, r, line)
			}
		}
	}
	for name, status := range map[string]string{
		"up": "Up 5 minutes (healthy)", "ill": "Up 3 hours (unhealthy)", "new": "Up less than a second (health: starting)",
		"again": "Restarting", "done": "Exited (137) 10 seconds ago", "evil": "Up 2 days",
	} {
		found := false
		for line := range strings.Lines(b.String()) {
			found = found || strings.Contains(line, "   "+name+" ") && strings.Contains(line, "   "+status+"   ")
		}
		if !found {
			t.Errorf("%s has not the status %q in\n%s", name, status, b.String())
		}
	}
	// Every line has its columns where the head has them.
	at := strings.Index(b.String(), "STATUS")
	for line := range strings.Lines(b.String()) {
		if r := []rune(line); r[at-1] != ' ' || r[at] == ' ' {
			t.Errorf("STATUS is not at column %d of %q", at, line)
		}
	}
}

func TestPsInFull(t *testing.T) {
	var b bytes.Buffer
	if err := printTable(&b, some()[:3], noon, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0123456789abcdef ", "redis:7@sha256:dddd", `"redis-server --save 60 1"`, "/opt/my app "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("there is no %q in\n%s", want, b.String())
		}
	}
}

func TestPsOfNothing(t *testing.T) {
	register(t)
	if out := run(t, "ps"); out != "ID   NAME   PID   IMAGE   COMMAND   STATUS   PORTS   HYPERVISOR\n" {
		t.Errorf("a table of nothing is %q", out)
	}
	if out := run(t, "ps", "--json"); out != "[]\n" {
		t.Errorf("JSON of nothing is %q", out)
	}
	if out := run(t, "ps", "-q"); out != "" {
		t.Errorf("the IDs of nothing are %q", out)
	}
	fails(t, testApp, 125, "json", "ps", "-q", "--json")
}

func TestPsJSON(t *testing.T) {
	register(t)
	a := start(t, instance.Info{Name: "ann", Keep: true, Started: noon, Health: "healthy", Ports: []instance.Port{{Host: "127.0.0.1:80", Guest: 8080, Proto: "tcp"}}})
	b := start(t, instance.Info{Name: "bob", Started: noon.Add(time.Second)})
	a.end(instance.Exit{Code: 3})
	list := func(args ...string) []map[string]any {
		var l []map[string]any
		if err := json.Unmarshal([]byte(run(t, append([]string{"ps", "--json"}, args...)...)), &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := list()
	if len(l) != 1 || l[0]["name"] != "bob" || l[0]["id"] != b.dir.ID() || l[0]["state"] != "running" || l[0]["exit"] != nil {
		t.Errorf("what lives is %v", l)
	}
	// The youngest comes first.
	l = list("-a")
	if len(l) != 2 || l[0]["name"] != "bob" || l[1]["name"] != "ann" {
		t.Fatalf("all are %v", l)
	}
	if e := l[1]; e["state"] != "exited" || e["exit"].(map[string]any)["code"] != 3.0 || e["pid"] != 0.0 || e["finished"] == nil {
		t.Errorf("what has ended is %v", e)
	}
	for filter, want := range map[string]string{
		"name=an": "ann", "name=x": "", "status=exited": "ann", "status=running": "bob", "health=healthy": "ann", "health=none": "bob",
		"id=" + b.dir.ID()[:5]: "bob",
	} {
		var names []string
		for _, i := range list("-a", "--filter", filter) {
			names = append(names, i["name"].(string))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("--filter %s: %s, want %s", filter, got, want)
		}
	}
	if got := list("--filter=status=exited"); len(got) != 1 {
		t.Errorf("ended ones were asked for, and are not there without -a: %v", got)
	}
	if got := run(t, "ps", "-aq", "--filter=name=ann", "--filter=name=bob", "--filter=status=running"); got != b.dir.ID()[:12]+"\n" {
		t.Errorf("-q: %q", got)
	}
	if got := run(t, "ps", "-q", "--no-trunc"); got != b.dir.ID()+"\n" {
		t.Errorf("-q --no-trunc: %q", got)
	}
	for _, bad := range []string{"name", "=x", "size=3"} {
		fails(t, testApp, 125, "--filter", "ps", "--filter", bad)
	}
}

func TestPorts(t *testing.T) {
	p := func(host string, guest uint16) instance.Port {
		return instance.Port{Host: host, Guest: guest, Proto: "tcp"}
	}
	for want, list := range map[string][]instance.Port{
		"":                                           nil,
		"0.0.0.0:80->8080/tcp":                       {p("0.0.0.0:80", 8080)},
		"127.0.0.1:80-82->90-92/tcp":                 {p("127.0.0.1:80", 90), p("127.0.0.1:81", 91), p("127.0.0.1:82", 92)},
		"[::1]:80-81->90-91/tcp":                     {p("[::1]:80", 90), p("[::1]:81", 91)},
		"1.1.1.1:1->1/tcp, 1.1.1.1:2->3/tcp":         {p("1.1.1.1:1", 1), p("1.1.1.1:2", 3)},
		"1.1.1.1:1->1/tcp, 1.1.1.2:2->2/tcp":         {p("1.1.1.1:1", 1), p("1.1.1.2:2", 2)},
		"odd->1/tcp, odd->2/tcp":                     {p("odd", 1), p("odd", 2)},
		"1.1.1.1:65535->65535/tcp, 1.1.1.1:0->0/tcp": {p("1.1.1.1:65535", 65535), p("1.1.1.1:0", 0)},
	} {
		if got := ports(list); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAge(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Hour: "less than a second", 999 * time.Millisecond: "less than a second", time.Second: "1 second", 59 * time.Second: "59 seconds",
		time.Minute: "about a minute", 2 * time.Minute: "2 minutes", 59*time.Minute + 59*time.Second: "59 minutes", time.Hour: "about an hour",
		47 * time.Hour: "47 hours", 2 * day: "2 days", 14 * day: "2 weeks", 60 * day: "2 months", 730 * day: "2 years",
	} {
		if got := age(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestImageName(t *testing.T) {
	for _, c := range []struct {
		info        instance.Info
		short, full string
	}{
		{instance.Info{Image: "redis:7", Digest: "sha256:aa"}, "redis:7", "redis:7@sha256:aa"},
		{instance.Info{Image: "localhost:5000/a/b"}, "localhost:5000/a/b", "localhost:5000/a/b"},
		{instance.Info{Image: "/srv/images/redis.tar"}, "redis.tar", "/srv/images/redis.tar"},
		{instance.Info{Exe: "/opt/my app"}, "my app", "/opt/my app"},
	} {
		if short, full := imageName(c.info, false), imageName(c.info, true); short != c.short || full != c.full {
			t.Errorf("imageName(%+v) is %q and %q, want %q and %q", c.info, short, full, c.short, c.full)
		}
	}
}
