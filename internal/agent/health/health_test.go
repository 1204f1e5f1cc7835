package health

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bake/internal/wire"
)

const (
	s       = time.Second
	healthy = wire.HealthHealthy
	ill     = wire.HealthUnhealthy
	begins  = wire.HealthStarting
)

// An event is a test that began, or a state that was told, and when.
type event struct {
	at   time.Duration
	what string
}

// A test that is played: it takes a time and ends with a code, or an error.
type played struct {
	takes time.Duration
	code  int
	err   error
	says  string
}

// watchFor plays tests, the last one again and again, and says what happened
// until half a second before some time, when nothing else happens.
func watchFor(t *testing.T, until time.Duration, h wire.Health, tests ...played) (events []event, messages []string) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), until-s/2)
		defer cancel()
		run := func(ctx context.Context, args []string, output io.Writer) (int, error) {
			events = append(events, event{time.Since(began), "test"})
			p := tests[0]
			if len(tests) > 1 {
				tests = tests[1:]
			}
			io.WriteString(output, p.says)
			select {
			case <-time.After(p.takes):
			case <-ctx.Done():
				return 137, nil
			}
			return p.code, p.err
		}
		err := Watch(ctx, h, run, func(state, message string) {
			events = append(events, event{time.Since(began), state})
			messages = append(messages, message)
		})
		if err != nil {
			t.Error(err)
		}
	})
	return events, messages
}

func TestWatch(t *testing.T) {
	test := []string{"CMD", "probe"}
	good, bad, hangs := played{}, played{code: 1}, played{takes: time.Hour}
	for name, tc := range map[string]struct {
		health wire.Health
		until  time.Duration
		tests  []played
		want   []event
	}{
		"the defaults": {wire.Health{}, 100 * s, []played{good}, []event{
			{0, begins}, {30 * s, "test"}, {30 * s, healthy}, {60 * s, "test"}, {90 * s, "test"},
		}},
		"three failures": {wire.Health{}, 130 * s, []played{bad}, []event{
			{0, begins}, {30 * s, "test"}, {60 * s, "test"}, {90 * s, "test"}, {90 * s, ill}, {120 * s, "test"},
		}},
		"the next one comes a pause after the end": {wire.Health{Interval: int64(10 * s)}, 30 * s, []played{{takes: 4 * s}}, []event{
			{0, begins}, {10 * s, "test"}, {14 * s, healthy}, {24 * s, "test"},
		}},
		"a success between": {wire.Health{Interval: int64(s), Retries: 2}, 7 * s, []played{bad, good, bad, good, bad, bad}, []event{
			{0, begins}, {s, "test"}, {2 * s, "test"}, {2 * s, healthy}, {3 * s, "test"}, {4 * s, "test"},
			{5 * s, "test"}, {6 * s, "test"}, {6 * s, ill},
		}},
		"better again": {wire.Health{Interval: int64(s), Retries: 1}, 4 * s, []played{bad, bad, good}, []event{
			{0, begins}, {s, "test"}, {s, ill}, {2 * s, "test"}, {3 * s, "test"}, {3 * s, healthy},
		}},
		"it hangs": {wire.Health{Retries: 1}, 70 * s, []played{hangs}, []event{
			{0, begins}, {30 * s, "test"}, {60 * s, ill},
		}},
		"it hangs for less": {wire.Health{Interval: int64(10 * s), Timeout: int64(2 * s), Retries: 2}, 25 * s, []played{hangs}, []event{
			{0, begins}, {10 * s, "test"}, {22 * s, "test"}, {24 * s, ill},
		}},
		"it cannot run": {wire.Health{Interval: int64(s), Retries: 2}, 3 * s, []played{{err: errors.New("no probe")}}, []event{
			{0, begins}, {s, "test"}, {2 * s, "test"}, {2 * s, ill},
		}},
		"a start period": {wire.Health{Interval: int64(10 * s), StartPeriod: int64(12 * s), Retries: 2}, 40 * s, []played{bad}, []event{
			// 15 s is after it, although the pause before was still short.
			{0, begins}, {5 * s, "test"}, {10 * s, "test"}, {15 * s, "test"}, {25 * s, "test"}, {25 * s, ill}, {35 * s, "test"},
		}},
		"a start period ends with success": {wire.Health{Interval: int64(10 * s), StartPeriod: int64(60 * s), StartInterval: int64(s), Retries: 1}, 20 * s, []played{bad, good, bad}, []event{
			{0, begins}, {s, "test"}, {2 * s, "test"}, {2 * s, healthy}, {12 * s, "test"}, {12 * s, ill},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.health.Test = test
			if got, _ := watchFor(t, tc.until, tc.health, tc.tests...); !slices.Equal(got, tc.want) {
				t.Errorf("got  %v\nwant %v", got, tc.want)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	h := wire.Health{Test: []string{"CMD-SHELL", "true"}, Interval: int64(s), Timeout: int64(2 * s), Retries: 1}
	long := strings.Repeat("x", OutputLimit+1)
	for name, tc := range map[string]struct {
		played played
		want   string
	}{
		"what it says":     {played{says: "all well\n"}, "all well\n"},
		"not for ever":     {played{says: long, code: 1}, long[1:] + "..."},
		"why it was ended": {played{says: "wait\n", takes: s * 10}, "wait\nthe test did not end within 2s"},
		"why it did not":   {played{err: errors.New("no shell")}, "no shell"},
		"no strange bytes": {played{says: "\xff!"}, "\uFFFD!"},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := watchFor(t, 4*s, h, tc.played)
			if want := []string{"", tc.want}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestCommand(t *testing.T) {
	for _, tc := range []struct{ test, want []string }{
		{nil, nil},
		{[]string{"NONE"}, nil},
		{[]string{"CMD", "a", "b c"}, []string{"a", "b c"}},
		{[]string{"CMD-SHELL", "a b"}, []string{"/bin/sh", "-c", "a b"}},
	} {
		if got, err := Command(tc.test); !slices.Equal(got, tc.want) || err != nil {
			t.Errorf("%q: %q, %v, want %q", tc.test, got, err, tc.want)
		}
	}
	for _, bad := range [][]string{{"CMD"}, {"CMD-SHELL"}, {"CMD-SHELL", "a", "b"}, {"curl"}, {""}} {
		if got, err := Command(bad); err == nil {
			t.Errorf("%q: %q, want an error", bad, got)
		}
	}
	// Nothing to test is no reason to wait, nor to say anything.
	for _, h := range []wire.Health{{}, {Test: []string{"NONE"}}, {Test: []string{"CMD"}}} {
		err := Watch(t.Context(), h, nil, func(string, string) { t.Errorf("%q: it reports", h.Test) })
		if (err != nil) != (len(h.Test) > 0 && h.Test[0] == "CMD") {
			t.Errorf("%q: %v", h.Test, err)
		}
	}
}
