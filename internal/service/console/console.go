// Package console is the host end of vsock port 14: it joins the container's
// standard streams to the app's own.
//
// In pipe mode stdin, stdout and stderr are three connections, so that a slow
// reader of one does not stop the others and each ends by itself; in terminal
// mode there is one. See [wire.ConsoleHello] for the protocol. The package
// sets no terminal modes and knows no signals.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"bake/internal/platform"
	"bake/internal/wire"
)

// helloTimeout bounds how long a connection may take to say what it is.
const helloTimeout = 10 * time.Second

// Streams are the app's ends. In pipe mode Stdout, if it is an io.Closer, is
// closed when the container has ended its own; Stderr stays open, since the app
// has things to say there too.
type Streams struct {
	Stdin  *os.File
	Stdout io.Writer
	Stderr io.Writer
	// Terminal is true when the container has one pseudoterminal.
	Terminal bool
}

// Serve joins the streams that the guest opens on ln until each has ended, or
// ctx does. It waits for everything that it started. Each stream is taken
// once; a connection for another is refused by closing it.
func Serve(ctx context.Context, ln net.Listener, s Streams) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()

	// The output streams decide when the console is done. stdin may stay open
	// for as long as the terminal does and is cancelled.
	j := &joiner{streams: s, open: map[wire.Stream]bool{wire.Stdin: true, wire.Stdout: true, wire.Stderr: true}, outputs: 2}
	if s.Terminal {
		j.open = map[wire.Stream]bool{wire.TTY: true}
		j.outputs = 1
	}
	j.finish = cancel

	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			cancel()
			wg.Wait()
			if err := j.err(); err != nil {
				return err
			}
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("take the container's streams: %w", err)
		}
		wg.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			j.join(ctx, conn)
		})
	}
}

// A joiner knows which streams are still to come and which have ended.
type joiner struct {
	streams Streams
	finish  context.CancelFunc

	mu      sync.Mutex
	open    map[wire.Stream]bool
	outputs int
	failed  error
}

func (j *joiner) err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// take reserves a stream for one connection.
func (j *joiner) take(s wire.Stream) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	ok := j.open[s]
	delete(j.open, s)
	return ok
}

// ended counts an output that has ended; the last one ends the console.
func (j *joiner) ended(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil && j.failed == nil {
		j.failed = err
	}
	if j.outputs--; j.outputs == 0 {
		j.finish()
	}
}

func (j *joiner) join(ctx context.Context, conn net.Conn) {
	conn.SetReadDeadline(time.Now().Add(helloTimeout))
	stream, err := wire.ReadConsoleHello(conn)
	if err != nil || !j.take(stream) {
		return
	}
	conn.SetReadDeadline(time.Time{})
	switch stream {
	case wire.Stdin:
		input(ctx, conn, j.streams.Stdin)
		closeWrite(conn)
	case wire.Stdout:
		err := output(j.streams.Stdout, conn, "stdout")
		if c, ok := j.streams.Stdout.(io.Closer); ok && err == nil {
			// Who reads ours learns of the end now and not when the app ends.
			err = c.Close()
		}
		j.ended(err)
	case wire.Stderr:
		j.ended(output(j.streams.Stderr, conn, "stderr"))
	case wire.TTY:
		ttyCtx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { typing(ttyCtx, conn, j.streams.Stdin) })
		err := output(j.streams.Stdout, conn, "the terminal")
		cancel()
		conn.Close()
		wg.Wait()
		j.ended(err)
	}
}

// output copies what the container writes. A reader of ours that has gone
// (EPIPE) is no error: closing the connection tells the container, which then
// gets SIGPIPE as it would natively.
func output(w io.Writer, conn net.Conn, name string) error {
	tw := &trackedWriter{w: w}
	_, err := io.Copy(tw, conn)
	if tw.err == nil || isBrokenPipe(tw.err) {
		return nil
	}
	return fmt.Errorf("write the container's output to %s: %w", name, err)
}

// A trackedWriter tells a failed write from a failed read, which io.Copy does
// not.
type trackedWriter struct {
	w   io.Writer
	err error
}

func (t *trackedWriter) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	if err != nil {
		t.err = err
	}
	return n, err
}

// input copies what the app reads until its end, the container's, or ctx's.
func input(ctx context.Context, w io.Writer, f *os.File) {
	r, err := platform.NewCancelReader(f)
	if err != nil {
		return
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, r.Cancel)
	defer stop()
	io.Copy(w, r)
}

// endOfFile is the character that a terminal takes for the end of its input,
// VEOF in termios(3), as the container's pseudoterminal has it at first.
const endOfFile = 4

// typing copies what the app reads to a terminal, and ends it as a person
// would. Ending the connection would hang the terminal up.
func typing(ctx context.Context, w io.Writer, f *os.File) {
	typed := lastByte{Writer: w, last: '\n'}
	input(ctx, &typed, f)
	if ctx.Err() != nil {
		return
	}
	end := []byte{endOfFile}
	if typed.last != '\n' {
		// Inside a line the first one only hands the line over.
		end = append(end, endOfFile)
	}
	w.Write(end)
}

// A lastByte remembers what was written last.
type lastByte struct {
	io.Writer
	last byte
}

func (l *lastByte) Write(p []byte) (int, error) {
	n, err := l.Writer.Write(p)
	if n > 0 {
		l.last = p[n-1]
	}
	return n, err
}

func closeWrite(conn net.Conn) {
	if hc, ok := conn.(interface{ CloseWrite() error }); ok {
		hc.CloseWrite()
		return
	}
	conn.Close()
}

// isBrokenPipe says that nobody reads what we write any more.
func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
}
