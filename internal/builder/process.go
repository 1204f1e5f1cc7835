package builder

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"bake/internal/image"
	"bake/internal/payload"
)

// process joins the image's configuration with the builder's flags.
func process(c image.Config, o Options) (payload.Process, error) {
	p := payload.Process{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Cwd: c.WorkingDir, User: c.User,
		StopSignal: c.StopSignal, Labels: c.Labels,
		UID: o.UID, GID: o.GID,
		ExposedPorts: exposedPorts(c),
		Healthcheck:  healthcheck(c),
	}
	if o.Entrypoint != nil {
		// As a Dockerfile's ENTRYPOINT does: another entrypoint has no use for
		// the command that was meant for the first.
		p.Entrypoint, p.Cmd = nil, nil
		if *o.Entrypoint != "" {
			p.Entrypoint = []string{*o.Entrypoint}
		}
	}
	p.Args = o.Args
	if o.Cwd != "" {
		p.Cwd = o.Cwd
	}
	if p.Cwd != "" && !strings.HasPrefix(p.Cwd, "/") {
		return p, fmt.Errorf("the working directory %q is not an absolute path: begin it with /, or give --cwd", p.Cwd)
	}
	env, err := environment(c.Env, o.Env)
	p.Env = env
	return p, err
}

// environment sets flags over the image's variables; a later one of the same
// name wins.
func environment(imageEnv, flags []string) ([]string, error) {
	var env []string
	at := map[string]int{}
	for i, kv := range slices.Concat(imageEnv, flags) {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" || strings.IndexByte(kv, 0) >= 0 {
			if i < len(imageEnv) {
				continue
			}
			return nil, fmt.Errorf("--env %q is not KEY=VALUE: an app carries values, so give one", kv)
		}
		if j, ok := at[key]; ok {
			env[j] = kv
			continue
		}
		at[key] = len(env)
		env = append(env, kv)
	}
	return env, nil
}

// healthcheck is the image's; one without a test of its own says nothing, as it
// had a parent to take the rest from.
func healthcheck(c image.Config) *payload.Healthcheck {
	if c.Healthcheck == nil || len(c.Healthcheck.Test) == 0 {
		return nil
	}
	return &payload.Healthcheck{
		Test: c.Healthcheck.Test, Interval: c.Healthcheck.Interval, Timeout: c.Healthcheck.Timeout,
		StartPeriod: c.Healthcheck.StartPeriod, Retries: c.Healthcheck.Retries,
	}
}

func exposedPorts(c image.Config) []string {
	return slices.Sorted(maps.Keys(c.ExposedPorts))
}
