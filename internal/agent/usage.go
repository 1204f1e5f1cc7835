//go:build linux

package agent

import (
	"runtime"

	"bake/internal/agent/container"
	"bake/internal/agent/socks"
	"bake/internal/agent/stats"
	"bake/internal/wire"
)

// usage is what the guest uses. What goes through published TCP ports comes
// over vsock and not by the interface; published UDP ports are not counted.
func (a *agent) usage(ports *socks.Server) wire.Stats {
	st := stats.Source{
		Cgroup: container.Cgroup, Proc: "/proc", Sys: "/sys", Interface: wire.HostInterface, Disks: "vd",
	}.Read(runtime.NumCPU())
	in, out := ports.Carried()
	st.Received, st.Sent = st.Received+in, st.Sent+out
	return st
}
