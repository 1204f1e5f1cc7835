//go:build linux

package sshd

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"bake/internal/wire"
)

// The payloads of requests and channels (RFC 4254, and OpenSSH's PROTOCOL for
// the names at openssh.com), as ssh.Unmarshal reads them.
type (
	ptyRequest struct { // 6.2
		Term                   string
		Cols, Rows, XPel, YPel uint32
		Modes                  string
	}
	windowChange struct { // 6.7
		Cols, Rows, XPel, YPel uint32
	}
	envRequest struct { // 6.4
		Name, Value string
	}
	oneString struct { // 6.5: exec and subsystem; 6.9: signal; bake's own
		Text string
	}
	exitStatus struct { // 6.10
		Code uint32
	}
	exitSignal struct { // 6.10
		Name     string
		Core     bool
		Message  string
		Language string
	}
	tcpAddress struct { // 7.1, and what a cancel names
		Host string
		Port uint32
	}
	tcpPort struct { // 7.1, the answer where 0 was asked for
		Port uint32
	}
	tcpChannel struct { // 7.2: direct-tcpip and forwarded-tcpip
		Host       string
		Port       uint32
		Originator string
		OriginPort uint32
	}
	unixPath struct { // streamlocal-forward@openssh.com, and its cancel
		Path string
	}
	unixDirect struct { // direct-streamlocal@openssh.com
		Path, Reserved string
		ReservedToo    uint32
	}
	unixForwarded struct { // forwarded-streamlocal@openssh.com
		Path, Reserved string
	}
)

// maxSide bounds a terminal's rows and columns: they are 16 bits wide in the
// kernel (struct winsize, ioctl_tty(2)).
const maxSide = 1<<16 - 1

// size is a terminal's rows and columns. A zero is a size that the client does
// not know.
func size(rows, cols uint32) (uint16, uint16) {
	return uint16(min(rows, maxSide)), uint16(min(cols, maxSide))
}

// decodeExec reads a [wire.RequestExec].
func decodeExec(payload []byte) (wire.ExecRequest, error) {
	var r wire.ExecRequest
	text, err := decodeJSON(payload, &r)
	if err != nil {
		return wire.ExecRequest{}, err
	}
	if len(r.Args) == 0 {
		return wire.ExecRequest{}, fmt.Errorf("there is no program to run in %.64q", text)
	}
	return r, nil
}

// decodeArchive checks a [wire.RequestArchive] and returns its JSON.
func decodeArchive(payload []byte) (string, error) {
	var r wire.ArchiveRequest
	text, err := decodeJSON(payload, &r)
	if err != nil {
		return "", err
	}
	if strings.ContainsRune(r.Path, 0) {
		return "", errors.New("a path contains a NUL byte, which no path can")
	}
	return text, nil
}

func decodeJSON(payload []byte, v any) (string, error) {
	var s oneString
	if len(payload) > wire.SessionLimit+4 {
		return "", fmt.Errorf("a request of %d bytes is longer than %d", len(payload), wire.SessionLimit)
	}
	if err := ssh.Unmarshal(payload, &s); err != nil {
		return "", err
	}
	if err := json.Unmarshal([]byte(s.Text), v); err != nil {
		return "", err
	}
	return s.Text, nil
}
