package instancecmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"bake/internal/instance"
)

func TestStatsOnce(t *testing.T) {
	register(t)
	start(t, instance.Info{Name: "ann"})
	out := run(t, "stats", "--no-stream", "ann")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "ID ") {
		t.Fatalf("got %q", out)
	}
	for _, want := range []string{"   ann   ", "   64MiB / 256MiB   25.00%   1.5kB / 2MB   10B / 20B   3   ", "   300MiB"} {
		if !strings.Contains(squeeze(lines[1]), squeeze(want)) {
			t.Errorf("there is no %q in %q", want, lines[1])
		}
	}
	if strings.Contains(lines[1], "--") {
		t.Errorf("something is not known: %q", lines[1])
	}
	if out := run(t, "stats", "--no-stream"); !strings.Contains(out, " ann ") {
		t.Errorf("of all: %q", out)
	}
	var j struct {
		Name, ID, Error            string
		CPUPercent, HostCPUPercent float64
		HostMemory                 uint64
		Guest                      struct{ PIDs int }
	}
	out = run(t, "stats", "--no-stream", "--json")
	if err := json.Unmarshal([]byte(out), &j); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: %q", err, out)
	}
	if j.Name != "ann" || j.ID == "" || j.Error != "" || j.Guest.PIDs != 3 || j.HostMemory != 300<<20 || j.CPUPercent <= 0 || j.HostCPUPercent <= j.CPUPercent {
		t.Errorf("got %s", out)
	}
	fails(t, testApp, 1, `"bob"`, "stats", "bob")
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestStatsOfNothing(t *testing.T) {
	register(t)
	if out := run(t, "stats", "--no-stream"); strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "ID ") {
		t.Errorf("got %q", out)
	}
	if out := run(t, "stats", "--no-stream", "--json"); out != "" {
		t.Errorf("got %q", out)
	}
}

// One that cannot be measured is shown, and does not keep the others from it.
func TestStatsOfWhatDoesNotAnswer(t *testing.T) {
	register(t)
	start(t, instance.Info{Name: "ann"})
	b := start(t, instance.Info{Name: "bob"})
	b.broken = errors.New("the guest is not up")
	r := verb(t.Context(), testApp, "stats", "--no-stream")
	if r.code != 1 || !strings.Contains(r.err.Error(), "the guest is not up") || !strings.Contains(squeeze(r.out), "bob -- -- / -- --") || !strings.Contains(squeeze(r.out), "64MiB / 256MiB") {
		t.Errorf("got %+v", r)
	}
	r = verb(t.Context(), testApp, "stats", "--no-stream", "--json", "bob")
	if r.code != 1 || !strings.Contains(r.out, `"error":"`) || strings.Contains(r.out, "guest\":{") {
		t.Errorf("got %+v", r)
	}
}

// It goes on with what is new, and ends with the last instance.
func TestStatsStream(t *testing.T) {
	register(t)
	a := start(t, instance.Info{Name: "ann", Started: noon})
	s := &selector{scope: testApp}
	m := &meter{which: s.instances(nil), every: time.Millisecond}
	var b *fake
	var seen []string
	err := m.stream(t.Context(), func(rows []usageRow) error {
		var names []string
		for _, r := range rows {
			names = append(names, r.Name)
		}
		seen = append(seen, strings.Join(names, "+"))
		switch len(seen) {
		case 1:
			if rows[0].cpu == nil || *rows[0].cpu <= 0 {
				t.Errorf("the first one has no share of a CPU: %+v", rows[0])
			}
			b = start(t, instance.Info{Name: "bob", Started: noon.Add(time.Second)})
		case 2:
			if rows[1].cpu != nil {
				t.Errorf("a new one is compared with nothing: %v", *rows[1].cpu)
			}
			a.end(instance.Exit{})
		case 3:
			b.end(instance.Exit{})
		}
		return nil
	})
	if got := strings.Join(seen, " "); err != nil || got != "ann ann+bob bob" {
		t.Errorf("it showed %q, %v", got, err)
	}
}

// Those that were named are measured, and no others, until they have ended.
func TestStatsStreamOfNamed(t *testing.T) {
	register(t)
	a := start(t, instance.Info{Name: "ann"})
	start(t, instance.Info{Name: "bob"})
	s := &selector{scope: testApp}
	m := &meter{which: s.instances([]string{"ann"}), every: time.Millisecond}
	n := 0
	err := m.stream(t.Context(), func(rows []usageRow) error {
		if n++; len(rows) != 1 || rows[0].Name != "ann" {
			t.Errorf("it showed %+v", rows)
		}
		a.end(instance.Exit{})
		return nil
	})
	if err != nil || n != 1 {
		t.Errorf("shown %d times, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m = &meter{which: s.instances([]string{"bob"}), every: time.Millisecond}
	err = m.stream(ctx, func([]usageRow) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestUsageOutput(t *testing.T) {
	rows := []usageRow{{Instance: instance.Instance{Info: instance.Info{ID: "0123456789abcdef", Name: "a\x1b[2J"}}}}
	rows[0].set(sample{at: noon.Add(2 * time.Second), stats: instance.Stats{HostCPUNanos: 3e9}}, sample{at: noon, stats: instance.Stats{HostCPUNanos: 1e9}}, true)
	var b bytes.Buffer
	p := &usagePrinter{w: &b}
	for range 2 {
		if err := p.print(rows); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 4 || lines[1] != lines[2] || strings.Contains(b.String(), "\x1b") {
		t.Errorf("two tables are %q", b.String())
	}
	if want := "0123456789ab a\ufffd[2J 0.00% 0B / 0B -- 0B / 0B 0B / 0B 0 100.00% 0B"; squeeze(lines[1]) != want {
		t.Errorf("got %q, want %q", squeeze(lines[1]), want)
	}
	b.Reset()
	if err := redraw(&b, rows); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); !strings.HasPrefix(s, "\x1b[HID ") || strings.Count(s, "\x1b[K\n") != 2 || !strings.HasSuffix(s, "\x1b[J") || strings.Count(s, "\x1b") != 4 {
		t.Errorf("on a terminal: %q", s)
	}
}

func TestPercent(t *testing.T) {
	for _, tc := range []struct {
		now, before uint64
		d           time.Duration
		want        string
	}{
		{2e9, 1e9, time.Second, "100.00%"}, {1e9, 1e9, time.Second, "0.00%"}, {0, 1, time.Second, "--"}, {1, 0, 0, "--"}, {1, 0, -1, "--"},
	} {
		if got := percentText(percent(tc.now, tc.before, tc.d)); got != tc.want {
			t.Errorf("%d - %d in %v: %s, want %s", tc.now, tc.before, tc.d, got, tc.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[uint64][2]string{
		0: {"0B", "0B"}, 999: {"999B", "999B"}, 1000: {"1000B", "1kB"}, 1024: {"1KiB", "1.02kB"}, 999_600: {"976.2KiB", "1MB"},
		1 << 20: {"1MiB", "1.05MB"}, 1<<64 - 1: {"16EiB", "18.4EB"},
	} {
		if got := [2]string{binarySize(n), decimalSize(n)}; got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
