package instance

import (
	"context"
	"crypto/ed25519"
	"net"
	"time"

	"bake/internal/platform"
	"bake/internal/wire"
)

// A Handler is the running app behind a [Registration]. Its methods are called
// for requests of others, at any time, also concurrently.
type Handler interface {
	// Stop asks the container to end as SIGTERM to the app does, and kills it
	// after timeout; a negative one is the app's own. It returns when that is
	// under way, and ends a restart loop for good.
	Stop(ctx context.Context, timeout time.Duration) error
	// Signal sends a Linux signal, by its name (SIGUSR1) or number, to the
	// container's first process.
	Signal(name string) error
	Stats(ctx context.Context) (Stats, error)
	// Guest connects to a port of the guest, once that runs. Only
	// [wire.PortSSH] is asked for.
	Guest(ctx context.Context, port uint32) (net.Conn, error)
	// Key is the private key that the guest's SSH server lets in; nil where
	// there is no server.
	Key() ed25519.PrivateKey
}

// Stats are what an instance uses.
type Stats struct {
	Guest wire.Stats `json:"guest"`
	// HostCPUNanos is the CPU time of the app and all that it started, the VMM
	// among them, since its start; HostMemory is what they hold, in bytes.
	HostCPUNanos uint64 `json:"hostCPUNanos"`
	HostMemory   uint64 `json:"hostMemory"`
}

// An Exit is how an instance ended.
type Exit struct {
	// Code is the app's exit code: the container's, or 125 to 127 with Error, a
	// sentence that says what failed.
	Code  int    `json:"code"`
	Error string `json:"error,omitempty"`
}

// A Registration is this process in the register.
type Registration struct{}

// Register tells others of this process, whose directory is dir, and serves
// what they ask it for. It fills in the ID and the PID, and makes up a name if
// there is none. A name that somebody else has is an error.
func Register(dir *platform.RunDir, info Info, h Handler) (*Registration, error) { panic("soon") }

// Info is what the others see now.
func (r *Registration) Info() Info { panic("soon") }

// Update changes what others see. f must not change the ID or the name.
func (r *Registration) Update(f func(*Info)) error { panic("soon") }

// Close tells those who wait, ends what is served and takes the instance out of
// the register. The directory remains, for the caller to close.
func (r *Registration) Close(exit Exit) error { panic("soon") }

// An Instance is an app that runs.
type Instance struct {
	Info
	// Dir is its directory.
	Dir string `json:"-"`
}

// List returns the instances of this user that live, the oldest first.
func List() ([]Instance, error) { panic("soon") }

// A Query names one instance. All that is set must fit.
type Query struct {
	// Name is a name, an ID, or the beginning of exactly one ID.
	Name string
	PID  int
	// App is Info.App; empty is any.
	App string
}

// Find returns the one living instance that q names. Otherwise the error says
// what runs, or how to name one; it wraps [ErrNotFound] if there is none.
func Find(q Query) (Instance, error) { panic("soon") }

// Stop ends the instance and returns when its process is gone. The container has
// timeout to end after the signal that asks it to; a negative one is the app's
// own.
func (i Instance) Stop(ctx context.Context, timeout time.Duration) error { panic("soon") }

// Signal sends a Linux signal, by name or number, to the container's first
// process. SIGKILL, and the signal that the container stops on, also end a
// restart loop.
func (i Instance) Signal(ctx context.Context, name string) error { panic("soon") }

// Stats asks what the instance uses.
func (i Instance) Stats(ctx context.Context) (Stats, error) { panic("soon") }

// Wait returns when the instance has ended, and how. The error wraps
// [ErrKilled] when its process died without a word.
func (i Instance) Wait(ctx context.Context) (Exit, error) { panic("soon") }

// Key is the private key that the guest's SSH server lets in.
func (i Instance) Key(ctx context.Context) (ed25519.PrivateKey, error) { panic("soon") }

// DialSSH connects to the guest's SSH server, which it waits for. The stream
// has CloseWrite.
func (i Instance) DialSSH(ctx context.Context) (net.Conn, error) { panic("soon") }

// AgentSocket is where the run's key can be used, by the ssh-agent protocol.
func (i Instance) AgentSocket() string { panic("soon") }

// KnownHosts is a file as ssh(1) has it, with the guest's host key.
func (i Instance) KnownHosts() string { panic("soon") }

// LogPath is the file with the newest output of a detached instance, as the
// container wrote it. What came before is in the same path with ".1" behind it.
func (i Instance) LogPath() string { panic("soon") }

// An Ended is an instance that has ended and that was to be kept (--rm=false).
// Its log, if it was detached, is as that of a living one.
type Ended struct {
	Instance
	Exit     Exit      `json:"exit"`
	Finished time.Time `json:"finished"`
}

// ListEnded returns the instances that have ended and were kept, the oldest
// first.
func ListEnded() ([]Ended, error) { panic("soon") }

// FindEnded is Find among those: of several with one name, it is the one that
// ended last.
func FindEnded(q Query) (Ended, error) { panic("soon") }

// Remove deletes all that is left of the instance.
func (e Ended) Remove() error { panic("soon") }
