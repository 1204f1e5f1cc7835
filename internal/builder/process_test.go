package builder

import (
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"bake/internal/image"
	"bake/internal/payload"
)

func TestProcess(t *testing.T) {
	entry, none := "/e", ""
	uid := uint32(7)
	img := image.Config{
		Entrypoint: []string{"/i"}, Cmd: []string{"c"}, Env: []string{"A=1", "broken", "B=2"}, WorkingDir: "/w",
		User: "u:g", StopSignal: "SIGQUIT", Labels: map[string]string{"l": "v"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "443/tcp": {}},
		Healthcheck:  &v1.HealthConfig{Test: []string{"CMD", "true"}, Interval: 1e9, Timeout: 2e9, StartPeriod: 3e9, Retries: 4},
	}
	plain := payload.Process{
		Entrypoint: []string{"/i"}, Cmd: []string{"c"}, Env: []string{"A=1", "B=2"}, Cwd: "/w",
		User: "u:g", StopSignal: "SIGQUIT", Labels: img.Labels, ExposedPorts: []string{"443/tcp", "80/tcp"},
		Healthcheck: &payload.Healthcheck{Test: []string{"CMD", "true"}, Interval: time.Second, Timeout: 2 * time.Second, StartPeriod: 3 * time.Second, Retries: 4},
	}
	with := func(change func(*payload.Process)) payload.Process {
		p := plain
		change(&p)
		return p
	}
	for name, tt := range map[string]struct {
		o    Options
		want payload.Process
		err  string
	}{
		"as the image says": {Options{}, plain, ""},
		"another entrypoint drops the command": {Options{Entrypoint: &entry}, with(func(p *payload.Process) {
			p.Entrypoint, p.Cmd = []string{"/e"}, nil
		}), ""},
		"an empty entrypoint removes it": {Options{Entrypoint: &none}, with(func(p *payload.Process) {
			p.Entrypoint, p.Cmd = nil, nil
		}), ""},
		"arguments":         {Options{Args: []string{"x"}}, with(func(p *payload.Process) { p.Args = []string{"x"} }), ""},
		"environment":       {Options{Env: []string{"B=3", "C="}}, with(func(p *payload.Process) { p.Env = []string{"A=1", "B=3", "C="} }), ""},
		"directory, user":   {Options{Cwd: "/x", UID: &uid}, with(func(p *payload.Process) { p.Cwd, p.UID = "/x", &uid }), ""},
		"a name alone":      {Options{Env: []string{"HOME"}}, payload.Process{}, "KEY=VALUE"},
		"no name":           {Options{Env: []string{"=x"}}, payload.Process{}, "KEY=VALUE"},
		"a relative folder": {Options{Cwd: "x"}, payload.Process{}, "absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := process(img, tt.o)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}
