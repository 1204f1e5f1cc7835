package wire

import (
	"io"
)

// ControlLimit bounds a control message, in bytes.
const ControlLimit = 64 << 10

// The types of [GuestMessage].
const (
	// GuestHello is the first message: Agent and Kernel are set.
	GuestHello = "hello"
	// GuestStarted says that the container's process runs.
	GuestStarted = "started"
	// GuestExit says that the container's process ended, and how. All output
	// has been handed over before it is sent.
	GuestExit = "exit"
	// GuestFailed says that the guest could not get that far: Message is a
	// sentence for the user and Code is 125, 126 or 127 as docker-run(1)
	// defines them.
	GuestFailed = "failed"
	// GuestLog is a line for --verbose.
	GuestLog = "log"
	// GuestWarning is a sentence for every user, about something that they asked
	// for and that does not work, or not yet.
	GuestWarning = "warning"
	// GuestPong answers [HostPing]. Stats is set if they were asked for.
	GuestPong = "pong"
	// GuestHealth tells that Health has changed; Message is what the test said.
	GuestHealth = "health"
)

// A GuestMessage is what the agent says on [PortControl].
type GuestMessage struct {
	Type string `json:"type"`
	// Code is the exit code, 0 to 255; 128+n when Signal is set.
	Code int `json:"code,omitempty"`
	// Signal is the name of the signal that ended the process, such as
	// SIGKILL; empty when it exited.
	Signal string `json:"signal,omitempty"`
	// OutOfMemory says that the kernel's OOM killer ended the process.
	OutOfMemory bool   `json:"outOfMemory,omitempty"`
	Message     string `json:"message,omitempty"`
	// Again says, with GuestFailed, that nothing of the container has run and
	// that another boot may well get further.
	Again  bool   `json:"again,omitempty"`
	Agent  string `json:"agent,omitempty"`
	Kernel string `json:"kernel,omitempty"`
	Stats  *Stats `json:"stats,omitempty"`
	// Health is one of HealthStarting, HealthHealthy, HealthUnhealthy.
	Health string `json:"health,omitempty"`
}

// The types of [HostMessage].
const (
	// HostSignal sends Signal to the container's first process.
	HostSignal = "signal"
	// HostResize sets the pseudoterminal's size to Rows and Cols.
	HostResize = "resize"
	// HostDone answers [GuestExit] and [GuestFailed]: the guest may power off.
	HostDone = "done"
	// HostNetwork tells how often the policy has said no: Denied is set.
	HostNetwork = "network"
	// HostResolver tells what the container's resolv.conf says from now on:
	// Resolver is set.
	HostResolver = "resolver"
	// HostPing, every second, tells the host's clock, UnixNano, which the guest
	// follows, and asks for [GuestPong]: whether the guest lives, and with
	// WantStats what it uses.
	HostPing = "ping"
	// HostVolume tells of a change on the host in a volume with Notify: Volume,
	// Path and Op are set.
	HostVolume = "volume"
)

// The values of HostMessage.Op.
const (
	VolumeCreate = "create" // Path came to be, by a rename or a link too
	VolumeWrite  = "write"
	VolumeRemove = "remove"
	VolumeRename = "rename" // Path is no longer there: it has another name or place
)

// VolumePathLimit bounds HostMessage.Path, in bytes: PATH_MAX of Linux.
const VolumePathLimit = 4096

// A HostMessage is what the host says on [PortControl].
type HostMessage struct {
	Type string `json:"type"`
	// Signal is a Linux signal's name (SIGTERM, SIGRTMIN+3) or number.
	// Numbers of the host's system mean nothing to the guest.
	Signal string `json:"signal,omitempty"`
	Rows   uint16 `json:"rows,omitempty"`
	Cols   uint16 `json:"cols,omitempty"`
	// Denied is how many connections and datagrams of the guest the network
	// policy has denied since its start.
	Denied uint64 `json:"denied,omitempty"`
	// Resolver replaces that of the manifest.
	Resolver *Resolver `json:"resolver,omitempty"`
	// Volume is the ID of a volume.
	Volume string `json:"volume,omitempty"`
	// Path names what has changed, from the volume's root on, without a slash
	// before or after it. It is bytes, base64 in JSON, as names need not be
	// UTF-8. In a volume that is one file, it is the name of that: "file".
	Path []byte `json:"path,omitempty"`
	// Op is one of VolumeCreate, VolumeWrite, VolumeRemove, VolumeRename.
	Op string `json:"op,omitempty"`
	// UnixNano is the host's clock, in nanoseconds.
	UnixNano  int64 `json:"unixNano,omitempty"`
	WantStats bool  `json:"wantStats,omitempty"`
}

// WriteGuestMessage writes one message of the agent.
func WriteGuestMessage(w io.Writer, m GuestMessage) error { return WriteJSON(w, m, ControlLimit) }

// ReadGuestMessage reads one message of the agent; io.EOF, bare, is the end.
func ReadGuestMessage(r io.Reader) (m GuestMessage, err error) {
	err = ReadJSON(r, &m, ControlLimit)
	return m, err
}

// WriteHostMessage writes one message of the host.
func WriteHostMessage(w io.Writer, m HostMessage) error { return WriteJSON(w, m, ControlLimit) }

// ReadHostMessage reads one message of the host; io.EOF, bare, is the end.
func ReadHostMessage(r io.Reader) (m HostMessage, err error) {
	err = ReadJSON(r, &m, ControlLimit)
	return m, err
}
