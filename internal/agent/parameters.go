//go:build linux

package agent

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// parameters are what containers find under Docker or on a full
// distribution, and what the kernel alone sets lower: a server that is not
// root may have port 80, anyone may ping, and processes and mappings are
// limited by memory only.
var parameters = map[string]string{
	"kernel/pid_max":                      "4194304",
	"net/ipv4/ip_unprivileged_port_start": "0",
	"net/ipv4/ping_group_range":           "0 2147483647",
	"vm/max_map_count":                    "1048576",
}

// setParameters sets what the kernel has of them.
func (a *agent) setParameters(context.Context) error {
	for name, value := range parameters {
		err := os.WriteFile("/proc/sys/"+name, []byte(value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			a.warn("set the kernel parameter %s: %v", name, err)
		}
	}
	return nil
}

// ignoreSignals keeps signals from ending PID 1, which is a kernel panic. The
// handlers end with exec, so that no child inherits them, as it would what is
// ignored.
func ignoreSignals() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPWR)
}
