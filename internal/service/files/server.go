package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"bake/internal/platform"
	"bake/internal/wire"
)

// A Volume is one directory or file of the host to serve.
type Volume struct {
	// ID is that of the [wire.Volume].
	ID string
	// Root is the directory or file: a descriptor of it, O_PATH on Linux. It
	// stays the caller's and is needed until Start has returned.
	Root *os.File
	// Path is what messages call it.
	Path     string
	ReadOnly bool
	// File says that Root is one file and no directory.
	File bool
	// Notify reports changes, see Options.Changed.
	Notify bool
	// UID and GID, if set, are the owner that everything shows.
	UID, GID *uint32
	// Cache is what the guest may keep: none, mmap, loose, or empty for the
	// default. With 9P the guest decides between the first two.
	Cache string
	// Socket is this side's end of a vhost-user connection. With one the volume
	// goes by virtiofs, without by 9P. It stays the caller's like Root.
	Socket *os.File
}

// A Change is one change on the host in a volume that has Notify. Path is
// relative to the volume; Op is a wire.Volume… constant.
type Change struct {
	Volume string
	Path   []byte
	Op     string
}

// Options are a Server's.
type Options struct {
	// Dir is a private directory for what Start may have to write.
	Dir string
	// Warn says a sentence to the user, Verbose one for --verbose.
	Warn, Verbose func(format string, args ...any)
	// Changed takes changes, one at a time and in order. While it does not
	// return, changes of the same path become one.
	Changed func(Change)
}

// A Server is the process that serves the volumes. Its methods are safe for
// concurrent use.
type Server struct {
	options Options
	process process
	control *net.UnixConn

	ready   chan struct{} // closed when it serves, or failed to
	failure error         // set before ready is closed
	done    chan struct{} // closed when it is gone and was waited for
	err     error         // set before done is closed

	sending sync.Mutex // one descriptor at a time
	warned  int        // handle's

	mu     sync.Mutex
	closed bool // by Close
}

// A process is the child that platform starts, or on macOS one like it.
type process interface {
	Done() <-chan struct{}
	Wait() error
	Kill() error
}

// ErrGone is wrapped by errors that say that the process has ended.
var ErrGone = errors.New("the file server has ended")

// Start starts the process that serves volumes: exe, with an argument 0 that
// [IsRole] knows. It returns at once; [Server.Ready] waits until it serves. The
// caller calls Close. When this process dies, however it does, so does that.
func Start(ctx context.Context, exe string, volumes []Volume, o Options) (*Server, error) {
	s, err := start(ctx, exe, volumes, o)
	if err != nil {
		return nil, fmt.Errorf("start the process that serves the volumes: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, exe string, volumes []Volume, o Options) (*Server, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(volumes) > maxVolumes {
		return nil, fmt.Errorf("%d volumes are more than the %d that one app may share", len(volumes), maxVolumes)
	}
	o.setDefaults()
	d := description{Parent: os.Getpid()}
	var roots, sockets []*os.File
	for _, v := range volumes {
		share := describedShare{ID: v.ID, Path: v.Path, ReadOnly: v.ReadOnly, File: v.File, Notify: v.Notify, UID: v.UID, GID: v.GID, Cache: v.Cache}
		roots = append(roots, v.Root)
		if v.Socket != nil {
			share.Socket = fdVolumes + len(volumes) + len(sockets)
			sockets = append(sockets, v.Socket)
		}
		d.Volumes = append(d.Volumes, share)
	}
	d.Sockets = len(sockets)
	encoded, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	if len(encoded) > descriptionLimit {
		return nil, fmt.Errorf("the volumes' paths are longer than %d bytes together", descriptionLimit)
	}
	told, err := platform.MemoryFile(o.Dir, "volumes", bytes.NewReader(encoded), int64(len(encoded)))
	if err != nil {
		return nil, err
	}
	defer told.Close()
	near, far, err := socketPair("file server")
	if err != nil {
		return nil, err
	}
	defer far.Close()
	conn, err := net.FileConn(near)
	near.Close()
	if err != nil {
		return nil, err
	}
	control := conn.(*net.UnixConn)
	cmd := &exec.Cmd{Path: exe, Args: []string{processName}, Dir: "/", Env: []string{}}
	cmd.ExtraFiles = append(append([]*os.File{told, far}, roots...), sockets...)
	said := &lines{say: o.Warn}
	cmd.Stderr = said
	p, err := startProcess(cmd)
	if err != nil {
		control.Close()
		return nil, fmt.Errorf("run %s: %w", exe, err)
	}
	s := &Server{options: o, process: p, control: control, ready: make(chan struct{}), done: make(chan struct{})}
	go s.watch(said)
	return s, nil
}

func (o *Options) setDefaults() {
	quiet := func(string, ...any) {}
	if o.Warn == nil {
		o.Warn = quiet
	}
	if o.Verbose == nil {
		o.Verbose = quiet
	}
	if o.Changed == nil {
		o.Changed = func(Change) {}
	}
}

// watch reads the process's reports until it ends, and then why it did.
func (s *Server) watch(said *lines) {
	defer close(s.done)
	err := s.listen()
	// Without its control socket it ends; one that does not is made to.
	s.control.Close()
	select {
	case <-s.process.Done():
	case <-time.After(endTime):
		s.process.Kill()
	}
	if status := s.process.Wait(); status != nil {
		err = status
	}
	said.end()
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	s.err = ErrGone
	if err != nil && !closed {
		s.err = fmt.Errorf("%w (%w)", ErrGone, err)
	}
	select {
	case <-s.ready:
	default:
		s.failure = s.err
		close(s.ready)
	}
}

// endTime is how long the process may take to end.
const endTime = 5 * time.Second

func (s *Server) listen() error {
	for {
		m, err := readReport(s.control)
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		s.handle(m)
	}
}

// maxWarnings bounds what the process says to every user: it may be the guest's
// by now.
const maxWarnings = 100

// handle takes one report. It is called from one goroutine.
func (s *Server) handle(m report) {
	switch m.Type {
	case reportReady, reportFailed:
		select {
		case <-s.ready:
			return
		default:
		}
		if m.Type == reportFailed {
			s.failure = errors.New(printable(m.Text))
		}
		close(s.ready)
	case reportLog:
		s.options.Verbose("%s", printable(m.Text))
	case reportWarning:
		if s.warned++; s.warned <= maxWarnings {
			s.options.Warn("%s", printable(m.Text))
		}
	case reportChange:
		if len(m.Path) > 0 && len(m.Path) <= wire.VolumePathLimit {
			s.options.Changed(Change{Volume: m.Volume, Path: m.Path, Op: m.Op})
		}
	}
}

// Ready returns when the process serves, or why it does not.
func (s *Server) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return s.failure
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done is closed when the process has ended and was waited for.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says, once Done is closed, why: [ErrGone] alone after Close.
func (s *Server) Err() error {
	<-s.done
	return s.err
}

// Serve gives the connections of ln to the process until ctx ends or the
// process does. It closes ln, and returns nil when ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	defer ln.Close()
	others.Go(func() {
		select {
		case <-ctx.Done():
		case <-s.done:
		}
		ln.Close()
	})
	for {
		conn, err := ln.Accept()
		if err != nil {
			select {
			case <-s.done:
				return s.err
			default:
			}
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for the guest to mount a volume: %w", err)
		}
		// One that is lost is the guest's to try again.
		if err := s.pass(ctx, conn, &others); err != nil && ctx.Err() == nil {
			s.options.Verbose("%v", err)
		}
	}
}

// pass gives one connection away. One that is no descriptor of this system
// gets one, by copying.
func (s *Server) pass(ctx context.Context, conn net.Conn, relays *sync.WaitGroup) error {
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	var f *os.File
	var err error
	if c, ok := conn.(interface{ File() (*os.File, error) }); ok {
		f, err = c.File()
	} else {
		var near *os.File
		if near, f, err = socketPair("volume"); err == nil {
			var pipe net.Conn
			pipe, err = net.FileConn(near)
			near.Close()
			if err == nil {
				guest := conn
				conn = nil
				relays.Go(func() { join(ctx, guest, pipe) })
			}
		}
	}
	if f != nil {
		defer f.Close()
	}
	if err != nil {
		return fmt.Errorf("give a connection of the guest to the file server: %w", err)
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	// The byte is what the descriptor goes with: a message cannot be empty.
	if err := sendFile(s.control, f); err != nil {
		return fmt.Errorf("give a connection of the guest to the file server: %w", err)
	}
	return nil
}

// join copies both ways until either side ends or ctx does.
func join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	var wg sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			io.Copy(pair[0], pair[1])
			a.Close()
			b.Close()
		})
	}
	wg.Wait()
}

// Close ends the process and waits for it.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.control.Close()
	<-s.done
	return nil
}

// A lines says each line that is written to it, up to a limit: the process's
// errors, a panic of it for instance.
type lines struct {
	say  func(format string, args ...any)
	buf  []byte
	said int
}

const (
	maxLine  = 512
	maxLines = 50
)

func (l *lines) Write(b []byte) (int, error) {
	for _, c := range b {
		if c == '\n' || len(l.buf) == maxLine {
			l.end()
		}
		if c != '\n' {
			l.buf = append(l.buf, c)
		}
	}
	return len(b), nil
}

// end says what has no newline yet.
func (l *lines) end() {
	text := strings.TrimRight(string(l.buf), " \t\r")
	l.buf = l.buf[:0]
	if text == "" || l.said == maxLines {
		return
	}
	l.said++
	l.say("file server: %s", printable(text))
}

// printable replaces what a terminal could take for a command: names of files
// get into messages.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}
