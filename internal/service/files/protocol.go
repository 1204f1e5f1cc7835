package files

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"bake/internal/wire"
)

// processName is the argument 0 that makes the app's file this process.
const processName = "bake.files"

// The descriptors that the process inherits. Those of the volumes follow, and
// after them the vhost-user sockets.
const (
	fdDescription = 3
	fdControl     = 4
	fdVolumes     = 5
)

// A description is what the process is told to serve.
type description struct {
	// Parent is its parent's process number.
	Parent  int              `json:"parent"`
	Volumes []describedShare `json:"volumes"`
	// Sockets is how many vhost-user sockets follow the volumes.
	Sockets int `json:"sockets"`
}

// A describedShare is one volume whose descriptor is fdVolumes + its index.
type describedShare struct {
	ID       string  `json:"id"`
	Path     string  `json:"path"`
	ReadOnly bool    `json:"readOnly,omitempty"`
	File     bool    `json:"file,omitempty"`
	Notify   bool    `json:"notify,omitempty"`
	UID      *uint32 `json:"uid,omitempty"`
	GID      *uint32 `json:"gid,omitempty"`
	Cache    string  `json:"cache,omitempty"`
	// Socket is the vhost-user socket's descriptor; 0 is none.
	Socket int `json:"socket,omitempty"`
}

// What the process says on the control socket.
const (
	reportReady   = "ready"   // it serves
	reportFailed  = "failed"  // it cannot: Text says why
	reportLog     = "log"     // Text is for --verbose
	reportWarning = "warning" // Text is for every user
	reportChange  = "change"  // Volume, Path and Op are set
)

// A report is one frame from the process to its parent.
type report struct {
	Type   string `json:"type"`
	Text   string `json:"text,omitempty"`
	Volume string `json:"volume,omitempty"`
	Path   []byte `json:"path,omitempty"`
	Op     string `json:"op,omitempty"`
}

const (
	// reportLimit bounds a report, in bytes. What the guest says does not get
	// into one, but names do that it made.
	reportLimit = 16 << 10
	// descriptionLimit bounds the description, in bytes.
	descriptionLimit = 1 << 20
	// maxVolumes bounds the shares of an app.
	maxVolumes = 256
)

// readDescription reads the inherited file, which stays as it is.
func readDescription(f *os.File) (*description, error) {
	data, err := io.ReadAll(io.LimitReader(io.NewSectionReader(f, 0, descriptionLimit+1), descriptionLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read what to serve: %w", err)
	}
	if len(data) > descriptionLimit {
		return nil, fmt.Errorf("what to serve is told in more than %d bytes", descriptionLimit)
	}
	var d description
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("read what to serve: %w", err)
	}
	if len(d.Volumes) > maxVolumes || d.Sockets < 0 || d.Sockets > len(d.Volumes) {
		return nil, fmt.Errorf("%d volumes and %d sockets are too many to serve", len(d.Volumes), d.Sockets)
	}
	for _, v := range d.Volumes {
		first := fdVolumes + len(d.Volumes)
		if v.Socket != 0 && (v.Socket < first || v.Socket >= first+d.Sockets) {
			return nil, fmt.Errorf("volume %q names descriptor %d, which is not a vhost-user socket", v.ID, v.Socket)
		}
	}
	return &d, nil
}

// readReport reads one report of a process that may be anybody's by now.
func readReport(r io.Reader) (report, error) {
	var m report
	err := wire.ReadJSON(r, &m, reportLimit)
	return m, err
}
