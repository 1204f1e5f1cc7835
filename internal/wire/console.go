package wire

import (
	"fmt"
	"io"
)

// A Stream names one of the container's standard streams.
type Stream string

// In pipe mode the guest opens one connection for each of stdin, stdout and
// stderr, so that each has its own flow control and its own end. In terminal
// mode it opens one for tty.
const (
	Stdin  Stream = "stdin"
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
	TTY    Stream = "tty"
)

// A ConsoleHello is the one frame that begins a connection on [PortConsole].
// Raw bytes follow:
//
//   - stdin: host to guest; the host closes its side for writing at end of
//     file, the guest closes the connection when the container no longer reads.
//   - stdout, stderr: guest to host; the guest closes its side for writing when
//     the container's last writer is gone and waits for the host to close the
//     connection, which says that everything arrived. A host that can no longer
//     write (EPIPE) closes early, and the guest closes its end of the pipe.
//   - tty: both ways; the guest ends it as it does stdout, and takes the host's
//     end for the terminal hanging up. The end of what is typed is a character.
type ConsoleHello struct {
	Stream Stream `json:"stream"`
}

// consoleHelloLimit bounds a hello, in bytes.
const consoleHelloLimit = 256

// WriteConsoleHello begins a console connection.
func WriteConsoleHello(w io.Writer, s Stream) error {
	return WriteJSON(w, ConsoleHello{Stream: s}, consoleHelloLimit)
}

// ReadConsoleHello reads the frame that begins a console connection and
// refuses a stream that it does not know.
func ReadConsoleHello(r io.Reader) (Stream, error) {
	var h ConsoleHello
	if err := ReadJSON(r, &h, consoleHelloLimit); err != nil {
		return "", fmt.Errorf("read which console stream this is: %w", err)
	}
	switch h.Stream {
	case Stdin, Stdout, Stderr, TTY:
		return h.Stream, nil
	}
	return "", fmt.Errorf("the guest opened a console stream that does not exist: %.32q", h.Stream)
}
