package app

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"bake/internal/policy"
	"bake/internal/service/egress"
	"bake/internal/service/forward"
	"bake/internal/volume"
	"bake/internal/wgconf"
	"bake/internal/wire"
)

// Options are what the user asked for, over what is embedded in the app. A
// zero value means "as embedded" unless a field says otherwise.
type Options struct {
	// CPUs is the number of virtual processors; 0 is as many as the host has,
	// or 1 where they are emulated.
	CPUs int
	// MemoryMiB is the guest's memory in MiB.
	MemoryMiB int
	// BootArgs go on the kernel command line.
	BootArgs *string
	// Entrypoint replaces the image's, and its command with it, as
	// docker-run(1) does; an empty one removes it.
	Entrypoint *string
	// Args, if there are any, replace the image's command.
	Args []string
	// Env is KEY=VALUE, or KEY for the value that the host has.
	Env []string
	Cwd *string
	UID *uint32
	GID *uint32
	// EphemeralDiskMiB is the size of the disk that the container's changes
	// go to, in MiB.
	EphemeralDiskMiB int
	// Hypervisor is a driver's name or auto.
	Hypervisor string
	// Network is what the guest may reach, within what is embedded.
	Network policy.Rules
	// DNS are nameservers that the guest's questions go to in place of the
	// host's. DNSSearch and DNSOptions replace those of the host's resolv.conf;
	// the search domain "." stands for none.
	DNS                   []netip.AddrPort
	DNSSearch, DNSOptions []string
	// AddHosts are names that the guest knows beside those of its own.
	AddHosts []wire.HostEntry
	// Hostnet asks for a network, which is an error where the app has none.
	Hostnet bool
	// Publish are ports of the guest to publish on the host.
	Publish []forward.Port
	// PublishAll publishes the ports that the image exposes, too, on free ports
	// of the loopback.
	PublishAll bool
	// ProxyProtocol is what published TCP connections begin with in the guest.
	ProxyProtocol forward.ProxyProtocol
	// Proxy, if there is one, carries all TCP to the outside.
	Proxy *egress.Proxy
	// WireGuard, if there is one, is a tunnel that the guest gets.
	WireGuard *wgconf.Config
	// Volumes are what the guest gets of the host, or memory for.
	Volumes []volume.Spec
	// StopTimeout is how long the container may take to end after the signal
	// that asks it to.
	StopTimeout time.Duration
	// BootTimeout is how long the guest may take until its agent reports.
	BootTimeout time.Duration
	// Terminal says whether the container gets a pseudoterminal.
	Terminal TerminalMode
	Verbose  bool
	// DryRun prints the VM's configuration and starts nothing.
	DryRun bool
	// NoReboot keeps a finished guest running.
	NoReboot bool
	// Detach runs the app in the background, without a terminal and with its
	// output in a log.
	Detach bool
	// Name is what the instance is called; one is made up if it is empty.
	Name string
	// Keep leaves the exit code and the log of an ended instance until they are
	// removed: --rm=false.
	Keep    bool
	Restart Restart
	// Health, if set, changes what the image says of its health check.
	Health *HealthOptions
	// NoSSH is a guest without a server that one can log in to.
	NoSSH bool
	SSH   SSHOptions

	// fileServer is the program that becomes the file server; empty is this
	// one.
	fileServer string
}

// The defaults where neither the user nor the app says anything.
const (
	DefaultMemoryMiB        = 256
	DefaultEphemeralDiskMiB = 2048
	DefaultStopTimeout      = 10 * time.Second
	DefaultBootTimeout      = 2 * time.Minute
)

// A TerminalMode says when the container gets a pseudoterminal.
type TerminalMode int

// With TerminalAuto it gets one when stdin, stdout and stderr all are
// terminals: only then is nothing lost by joining them into one stream.
const (
	TerminalAuto TerminalMode = iota
	TerminalAlways
	TerminalNever
)

// Stdio is the app's own standard streams and environment.
type Stdio struct {
	Stdin          *os.File
	Stdout, Stderr *os.File
	Environ        []string
}

// warn says one line to the user.
func warn(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "bake: "+format+"\n", args...)
}
