package instancecmd

import (
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bake/internal/instance"
)

func TestStop(t *testing.T) {
	register(t)
	a := start(t, instance.Info{Name: "ann"})
	b := start(t, instance.Info{Name: "bob", Keep: true})
	if out := run(t, "stop", "-t", "3", "bob", "ann"); out != "bob\nann\n" {
		t.Errorf("it printed %q, want the names in their order", out)
	}
	for _, f := range []*fake{a, b} {
		if !reflect.DeepEqual(f.stops, []time.Duration{3 * time.Second}) {
			t.Errorf("the instance was asked to stop within %v", f.stops)
		}
	}
	if out := run(t, "wait", "bob"); out != "143\n" {
		t.Errorf("wait for what has ended: %q", out)
	}
	c := start(t, instance.Info{Name: "cyd"})
	if out := run(t, "stop"); out != "cyd\n" || !reflect.DeepEqual(c.stops, []time.Duration{-1}) {
		t.Errorf("stop of the only one: %q, within %v, want the app's own time", out, c.stops)
	}
	fails(t, testApp, 1, "nothing runs", "stop")
	fails(t, testApp, 1, "nothing runs", "stop", "cyd")
	fails(t, testApp, 125, "--timeout", "stop", "-t", "soon")
}

// What can be done is done, and what cannot be is said.
func TestStopOfSomeThatAreNotThere(t *testing.T) {
	register(t)
	start(t, instance.Info{Name: "ann"})
	r := verb(t.Context(), testApp, "stop", "x", "ann", "y")
	if r.out != "ann\n" || r.code != 1 || !strings.Contains(r.err.Error(), `"x"`) || !strings.Contains(r.err.Error(), `"y"`) {
		t.Errorf("got %+v", r)
	}
}

func TestKill(t *testing.T) {
	register(t)
	a := start(t, instance.Info{Name: "ann"})
	for _, args := range [][]string{{"kill", "ann"}, {"kill", "-s", "hup", "--name", "ann"}, {"kill", "--signal=SIGRTMIN+3", "--pid", strconv.Itoa(os.Getpid())}, {"kill", "-s10"}} {
		if out := run(t, args...); out != "ann\n" {
			t.Errorf("%v printed %q", args, out)
		}
	}
	if want := []string{"SIGKILL", "SIGHUP", "SIGRTMIN+3", "10"}; !slices.Equal(a.signals, want) {
		t.Errorf("it got %v, want %v", a.signals, want)
	}
	for _, s := range []string{"", "0", "65", "-1", "a b", "SIG", "SIGRTMIN+", "1x"} {
		fails(t, testApp, 125, "--signal", "kill", "--signal="+s, "ann")
	}
	fails(t, testApp, 1, "no signal called", "kill", "-s", "none", "ann")
	fails(t, testApp, 125, "--pid", "kill", "-p", "1", "ann", "bob")
	fails(t, testApp, 125, "--pid", "kill", "-p", "-1")
	fails(t, testApp, 125, "empty", "kill", "")
	fails(t, testApp, 1, "PID 1", "kill", "-p", "1")
}

// An app's verbs are about its own instances.
func TestScope(t *testing.T) {
	register(t)
	mine, theirs := strings.Repeat("a", 64), strings.Repeat("b", 64)
	start(t, instance.Info{Name: "mine", App: mine})
	start(t, instance.Info{Name: "theirs", App: theirs})
	scope := Scope{App: mine}
	if r := verb(t.Context(), scope, "ps"); r.err != nil || !strings.Contains(r.out, "mine") || strings.Contains(r.out, "theirs") {
		t.Errorf("ps: %+v", r)
	}
	fails(t, scope, 1, "theirs", "stop", "theirs")
	if r := verb(t.Context(), scope, "rm", "-f", "theirs"); r.err != nil {
		t.Errorf("rm -f of what is not there, for this app: %+v", r)
	}
	if r := verb(t.Context(), scope, "stats", "--no-stream"); strings.Contains(r.out, "theirs") {
		t.Errorf("stats: %+v", r)
	}
	if r := verb(t.Context(), scope, "stop"); r.err != nil || r.out != "mine\n" {
		t.Errorf("stop of its only one: %+v", r)
	}
	fails(t, Scope{App: "cyd"}, 1, "nothing runs", "stop")
	if r := verb(t.Context(), Scope{}, "stop", "theirs"); r.err != nil || r.out != "theirs\n" {
		t.Errorf("the other one, by bake: %+v", r)
	}
}

func TestWait(t *testing.T) {
	register(t)
	// They are kept, so that it does not matter who is faster.
	a := start(t, instance.Info{Name: "ann", Keep: true})
	b := start(t, instance.Info{Name: "bob", Keep: true})
	done := make(chan result)
	go func() { done <- verb(t.Context(), testApp, "wait", "ann", "bob") }()
	b.end(instance.Exit{Code: 2})
	a.end(instance.Exit{Code: 137})
	if r := <-done; r.err != nil || r.out != "137\n2\n" {
		t.Errorf("got %+v", r)
	}
	c := start(t, instance.Info{Name: "cyd"})
	c.end(instance.Exit{})
	fails(t, testApp, 1, "nothing runs", "wait", "cyd")
}

func TestRm(t *testing.T) {
	register(t)
	a := start(t, instance.Info{Name: "ann", Keep: true})
	fails(t, testApp, 1, "stop it first", "rm", "ann")
	a.end(instance.Exit{Code: 1})
	if out := run(t, "rm", "ann"); out != "ann\n" {
		t.Errorf("it printed %q", out)
	}
	if out := run(t, "ps", "-aq"); out != "" {
		t.Errorf("there is still %q", out)
	}
	fails(t, testApp, 1, "nothing runs", "rm", "ann")
	run(t, "rm", "-f", "ann")

	b := start(t, instance.Info{Name: "bob", Keep: true})
	if out := run(t, "rm", "-f", "bob"); out != "bob\n" || !reflect.DeepEqual(b.stops, []time.Duration{0}) {
		t.Errorf("rm -f of what runs: %q, it was asked to stop within %v", out, b.stops)
	}
	if out := run(t, "ps", "-aq"); out != "" {
		t.Errorf("there is still %q", out)
	}
	fails(t, testApp, 125, "which", "rm")
}

func TestCompletion(t *testing.T) {
	register(t)
	start(t, instance.Info{Name: "bob", Image: "nginx\x1b[2J"})
	cyd := start(t, instance.Info{Name: "cyd", Keep: true})
	cyd.end(instance.Exit{})
	start(t, instance.Info{Name: "ann", Image: "redis"})
	for args, want := range map[string]string{
		"stop ":                "ann\tredis bob\tnginx\ufffd[2J :4",
		"stop bob ":            "ann\tredis :4",
		"kill --name ":         "ann\tredis bob\tnginx\ufffd[2J :4",
		"kill -s H":            "HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH :4",
		"rm ":                  "ann\tredis bob\tnginx\ufffd[2J cyd :4",
		"ps ":                  ":4",
		"ps --filter ":         "health= id= image= name= status= :6",
		"logs --follow=true b": "ann\tredis bob\tnginx\ufffd[2J cyd :4",
	} {
		r := verb(t.Context(), testApp, append([]string{"__complete"}, strings.Split(args, " ")...)...)
		out, _, _ := strings.Cut(r.out, "Completion ended")
		var got []string
		for line := range strings.Lines(out) {
			got = append(got, strings.TrimSpace(line))
		}
		if s := strings.Join(got, " "); r.err != nil || s != want {
			t.Errorf("%q: %q, %v, want %q", args, s, r.err, want)
		}
	}
}
