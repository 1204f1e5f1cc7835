package app

import (
	"strings"
	"testing"
)

func TestParseRestart(t *testing.T) {
	for s, want := range map[string]Restart{
		"":               {Mode: RestartNo},
		"no":             {Mode: RestartNo},
		"on-failure":     {Mode: RestartOnFailure},
		"on-failure:0":   {Mode: RestartOnFailure},
		"on-failure:5":   {Mode: RestartOnFailure, Max: 5},
		"always":         {Mode: RestartAlways},
		"unless-stopped": {Mode: RestartUnlessStopped},
	} {
		got, err := ParseRestart(s)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", s, got, err, want)
		}
		if again, err := ParseRestart(got.String()); err != nil || again != got {
			t.Errorf("%q: its text %q is %+v, %v", s, got, again, err)
		}
	}
	for _, s := range []string{"never", "always:3", "no:1", "on-failure:", "on-failure:-1", "on-failure:x", "on-failure:99999999999", ":3", "Always"} {
		if got, err := ParseRestart(s); err == nil || !strings.Contains(err.Error(), "--restart") {
			t.Errorf("%q: %+v, %v, want an error", s, got, err)
		}
	}
	if s := (Restart{}).String(); s != RestartNo {
		t.Errorf("the zero value is %q", s)
	}
}
