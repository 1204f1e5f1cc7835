package instance

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The names of files in an instance's directory.
const (
	infoFile       = "instance.json"
	apiSocket      = "api"
	agentSocket    = "agent"       // as service/ssh calls it
	knownHostsFile = "known_hosts" // as service/ssh calls it
	logFile        = "log"
	// OlderLog is what the path of a log has behind it where the part before
	// it is.
	OlderLog = ".1"
)

// AgentSocket is where the run's key can be used, by the ssh-agent protocol.
func (i Instance) AgentSocket() string { return filepath.Join(i.Dir, agentSocket) }

// KnownHosts is a file as ssh(1) has it, with the guest's host key.
func (i Instance) KnownHosts() string { return filepath.Join(i.Dir, knownHostsFile) }

// LogPath is the file with the newest output of a detached instance, as the
// container wrote it. What came before is in the same path with [OlderLog] behind
// it.
func (i Instance) LogPath() string { return LogIn(i.Dir) }

// LogIn is LogPath for the app itself: the instance's directory is dir.
func LogIn(dir string) string { return filepath.Join(dir, logFile) }

// infoLimit bounds instance.json, in bytes: a command of the size that execve(2)
// allows fits.
const infoLimit = 8 << 20

// readJSON reads a file that an instance wrote.
func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, infoLimit+1))
	if err != nil {
		return err
	}
	if len(b) > infoLimit {
		return fmt.Errorf("%s is longer than %d bytes", path, infoLimit)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is not as an app writes it: %w", path, err)
	}
	return nil
}

// writeJSON replaces a file such that a reader finds the old one or the new.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	next := path + ".new"
	if err := os.WriteFile(next, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
