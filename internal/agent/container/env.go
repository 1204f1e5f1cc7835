//go:build linux

package container

import (
	"fmt"
	"slices"
	"strings"

	"bake/internal/wire"
)

// defaultPath is the PATH that Docker gives a container whose image sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is p.Env with what Docker adds when it is not there.
func environment(p wire.Process, hostname string, a Account) ([]string, error) {
	set := make(map[string]bool, len(p.Env))
	for _, kv := range p.Env {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" || strings.ContainsRune(kv, 0) {
			return nil, fmt.Errorf("%.64q is no environment variable: it must be KEY=VALUE", kv)
		}
		set[key] = true
	}
	env := make([]string, 0, len(p.Env)+4)
	add := func(key, value string) {
		if !set[key] {
			env = append(env, key+"="+value)
		}
	}
	add("PATH", defaultPath)
	add("HOSTNAME", hostname)
	if p.Terminal {
		add("TERM", "xterm")
	}
	env = append(env, p.Env...)
	add("HOME", a.Home)
	return env, nil
}

// inits are the names of programs that are made to be PID 1 of a container or
// refuse to be anything else. They take the place of bake's init.
var inits = []string{
	"init", "systemd", "s6-svscan", "runit", "runit-init", "openrc-init",
	"tini", "tini-static", "dumb-init", "docker-init", "catatonit",
}

// isInit says whether args run such a program.
func isInit(args []string) bool {
	if len(args) == 0 {
		return false
	}
	name := args[0]
	return slices.Contains(inits, name[strings.LastIndexByte(name, '/')+1:])
}
