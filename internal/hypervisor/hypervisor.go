package hypervisor

import (
	"context"
	"net"
)

// A Driver runs VMs with one hypervisor. Its methods are safe for concurrent
// use.
type Driver interface {
	// Name is what --hypervisor calls it: firecracker, qemu, virtualization.
	Name() string
	// Available says whether the driver can run VMs on this machine. The error
	// is one sentence that says what is missing and what would cure it.
	Available(ctx context.Context) error
	// Capabilities says what the driver can do on this machine.
	Capabilities() Capabilities
	// Describe says which machine New would make, without making it; it is
	// what BAKE_DRY_RUN=1 prints.
	Describe(ctx context.Context, cfg Config) (Description, error)
	// New checks cfg and prepares a VM. Nothing runs before Start. The caller
	// calls Close when it is done with the VM, started or not.
	New(ctx context.Context, cfg Config) (VM, error)
}

// Capabilities is what a driver can do.
type Capabilities struct {
	// DiskOffset: a Disk's Resource may begin in the middle of a file. Without
	// it the guest sees the whole file and maps the window itself.
	DiskOffset bool
	// MaxDisks is how many disks a VM may have.
	MaxDisks int
	// VirtioFS: the hypervisor itself serves the Dir of a Share.
	VirtioFS bool
	// VhostUserFS: the Socket of a Share works.
	VhostUserFS bool
	// ReturnsMemory: what a guest frees goes back to the host, if its kernel
	// has free page reporting.
	ReturnsMemory bool
}

// A VM is one microVM. Methods are safe for concurrent use.
type VM interface {
	// Start boots the VM and returns when the hypervisor runs it, not when
	// the guest is ready. A second call is an error.
	Start(ctx context.Context) error
	// Stop ends the VM: it asks the guest first where the hypervisor has a way
	// to, and forces it when ctx ends. It returns when the VM is gone.
	// A VM that has ended already, or never started, is no error.
	Stop(ctx context.Context) error
	// Wait returns when the guest is gone and everything that the driver
	// started for it has ended. It may be called more than once, and all
	// calls return the same.
	Wait() (Exit, error)
	// DialVsock connects to a port that the guest listens on. It makes one
	// try; a guest that does not listen (yet) is an error.
	DialVsock(ctx context.Context, port uint32) (net.Conn, error)
	// ListenVsock takes the guest's connections to a port of the host. Call
	// it before Start. The connections have CloseWrite.
	ListenVsock(port uint32) (net.Listener, error)
	// State says what the VM is doing.
	State() State
	// Close ends the VM by force if it runs, and frees what New took.
	Close() error
}

// State is what a VM is doing.
type State int

// A VM goes through these in order; a VM that fails to start goes from
// StateNew to StateStopped.
const (
	StateNew State = iota
	StateRunning
	StateStopped
)

// String is the state's name in lower case.
func (s State) String() string {
	switch s {
	case StateNew:
		return "new"
	case StateRunning:
		return "running"
	case StateStopped:
		return "stopped"
	}
	return "unknown"
}

// An Exit is how a VM ended.
type Exit struct {
	// Clean is true when the guest powered off or rebooted by itself, which a
	// kernel panic with panic=-1 also looks like. It is false when the
	// hypervisor's process failed or was killed.
	Clean bool
	// Reason is a clause for the user when Clean is false, such as
	// "qemu-system-x86_64 was killed by signal killed".
	Reason string
}
