//go:build linux

// Package ctrinit is the first process of a container: it starts the user's
// command as its child, passes signals on, collects orphans, and reports to
// the agent exactly how the command ended.
//
// A command that were itself PID 1 of its PID namespace would be immune to
// every signal that it does not handle, so that `sleep 100` could not be
// interrupted, and would have to collect orphans, which few programs do
// (pid_namespaces(7)). Programs that are made to be PID 1, such as systemd,
// replace this process instead: see [Start.Exec].
//
// The init is the agent's own executable in another role. It runs as the
// container's user inside the container's namespaces, finds the command with
// the user's rights, and speaks with the agent over one inherited socket. It
// knows nothing of the guest or the host.
//
// Programs that are run beside the command begin with it too, for it to find
// them with the user's rights: it becomes the program. So do parts of the agent
// that work in the container with the user's rights, see [Start.Role].
package ctrinit

import (
	"io"

	"bake/internal/wire"
)

// The file descriptors that the init inherits.
const (
	// SocketFD is the init's end of a stream socket to the agent.
	SocketFD = 3
	// ExecutableFD is the agent's executable. The init is run by
	// [Executable], so that the container's files need not hold it.
	ExecutableFD = 4
	// FilesFD is the first of what else a program beside the command inherits.
	FilesFD = 5
)

// Executable is the path by which a container whose first process inherits
// [ExecutableFD] runs the init; see proc_pid_fd(5). It is also how the
// executable recognises its role, as no kernel runs PID 1 of a guest by it.
const Executable = "/proc/self/fd/4"

// limit bounds a message: arguments and environment are the largest part.
const limit = wire.ManifestLimit

// A Request goes from the agent to the init: first one Start, then signals.
type Request struct {
	Start *Start `json:"start,omitempty"`
	// Signal is a signal's number for the command.
	Signal int `json:"signal,omitempty"`
}

// A Start says what the init runs.
type Start struct {
	Args []string `json:"args"`
	Env  []string `json:"env"`
	// Path is the program where it is not Args[0].
	Path string `json:"path,omitempty"`
	// Role has the init become a part of the agent in place of a program.
	Role string `json:"role,omitempty"`
	// Dir is where to change to first; AnyDir takes / where that fails.
	Dir    string `json:"dir,omitempty"`
	AnyDir bool   `json:"anyDir,omitempty"`
	// Terminal makes standard input the controlling terminal of the command.
	Terminal bool `json:"terminal,omitempty"`
	// Exec replaces the init by the command. The end of the socket says that
	// this succeeded, and only the kernel knows how the command ends.
	Exec bool `json:"exec,omitempty"`
}

// The types of [Report].
const (
	// Started: the command runs. Not sent with Start.Exec.
	Started = "started"
	// Failed: the command could not be run; Code and Message are set as in
	// wire.GuestFailed.
	Failed = "failed"
	// Exited: the command ended; Status is set.
	Exited = "exited"
)

// A Report goes from the init to the agent.
type Report struct {
	Type    string `json:"type"`
	Code    int    `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Status is the command's wait status, see wait(2).
	Status uint32 `json:"status,omitempty"`
}

// WriteRequest writes one request.
func WriteRequest(w io.Writer, r Request) error { return wire.WriteJSON(w, r, limit) }

// ReadReport reads one report; io.EOF, bare, is the end.
func ReadReport(r io.Reader) (rep Report, err error) {
	err = wire.ReadJSON(r, &rep, limit)
	return rep, err
}
