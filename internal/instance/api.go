package instance

import (
	"context"
	"crypto/ed25519"
	"time"

	"bake/internal/relay"
	"bake/internal/wire"
)

// A Handler is the running app behind a [Registration]. Its methods are called
// for requests of others, at any time, also concurrently. A context ends with the
// connection of who asked.
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
	Guest(ctx context.Context, port uint32) (relay.Conn, error)
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

// The operations of a request.
const (
	opStop   = "stop"   // Timeout is set; then the stream ends with the process
	opSignal = "signal" // Signal is set
	opStats  = "stats"  // the answer has Stats
	opWait   = "wait"   // the answer comes at the end, and has Exit
	opKey    = "key"    // the answer has Key
	opSSH    = "ssh"    // after the answer, the stream leads to the guest
)

// Bounds of the frames, in bytes.
const (
	requestLimit  = 4 << 10
	responseLimit = 64 << 10
)

// A request is the first frame on a connection to the socket "api", and the only
// one. The answer is one response.
type request struct {
	Op      string        `json:"op"`
	Timeout time.Duration `json:"timeout,omitempty"` // nanoseconds; negative is the app's own
	Signal  string        `json:"signal,omitempty"`
}

type response struct {
	// Error, a sentence, is set if the request failed.
	Error string `json:"error,omitempty"`
	Stats *Stats `json:"stats,omitempty"`
	Exit  *Exit  `json:"exit,omitempty"`
	Key   []byte `json:"key,omitempty"` // the seed of RFC 8032
}
