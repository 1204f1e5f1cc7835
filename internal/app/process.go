package app

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"bake/internal/payload"
	"bake/internal/wire"
)

// envPrefix marks the host's variables that go to the container, without it.
const envPrefix = "BAKE_VM_"

// process joins what is embedded with what the user asked for. The terminal is
// not decided here.
func process(def payload.Process, o Options, environ []string) (wire.Process, error) {
	entrypoint, cmd := def.Entrypoint, def.Cmd
	if len(def.Args) > 0 {
		cmd = def.Args
	}
	if o.Entrypoint != nil {
		entrypoint, cmd = nil, nil
		if *o.Entrypoint != "" {
			entrypoint = []string{*o.Entrypoint}
		}
	}
	if len(o.Args) > 0 {
		cmd = o.Args
	}
	args := slices.Concat(entrypoint, cmd)
	if len(args) == 0 {
		return wire.Process{}, fmt.Errorf("the image names no command to run: put one after --, or give --entrypoint")
	}
	if args[0] == "" {
		return wire.Process{}, fmt.Errorf("the command to run is an empty string: put a command after --")
	}
	for _, a := range args {
		if err := carriable("the argument", a); err != nil {
			return wire.Process{}, err
		}
	}
	env, err := environment(def.Env, environ, o.Env)
	if err != nil {
		return wire.Process{}, err
	}
	p := wire.Process{Args: args, Env: env, Cwd: def.Cwd, User: def.User, UID: def.UID, GID: def.GID}
	if o.Cwd != nil && *o.Cwd != "" {
		p.Cwd = *o.Cwd
	}
	if p.Cwd != "" && !strings.HasPrefix(p.Cwd, "/") {
		return wire.Process{}, fmt.Errorf("the working directory %q is not an absolute path: begin it with /", p.Cwd)
	}
	if o.UID != nil {
		p.UID = o.UID
	}
	if o.GID != nil {
		p.GID = o.GID
	}
	return p, nil
}

// environment applies, in rising precedence, what is embedded, the host's
// BAKE_VM_ variables and --env. A key is in the result once, where it came
// first.
func environment(embedded, host, flags []string) ([]string, error) {
	var env []string
	at := map[string]int{}
	set := func(key, value string) {
		kv := key + "=" + value
		if i, ok := at[key]; ok {
			env[i] = kv
			return
		}
		at[key] = len(env)
		env = append(env, kv)
	}
	values := make(map[string]string, len(host))
	for _, kv := range embedded {
		if key, value, ok := strings.Cut(kv, "="); ok && key != "" {
			set(key, value)
		}
	}
	for _, kv := range host {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			continue
		}
		values[key] = value
		if name, ok := strings.CutPrefix(key, envPrefix); ok && name != "" {
			set(name, value)
		}
	}
	for _, kv := range flags {
		key, value, ok := strings.Cut(kv, "=")
		if key == "" {
			return nil, fmt.Errorf("--env %q is not KEY=VALUE: give a name before the =, or a name alone to pass the host's value", kv)
		}
		if !ok {
			if value, ok = values[key]; !ok {
				continue
			}
		}
		set(key, value)
	}
	for _, kv := range env {
		if err := carriable("the variable", kv); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// carriable refuses what the OCI runtime's configuration, which is JSON, would
// carry as something else.
func carriable(what, s string) error {
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%s %q is not UTF-8 text without NUL bytes, and the container's OCI runtime can be given nothing else", what, s)
	}
	return nil
}
