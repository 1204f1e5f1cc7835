package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"

	"bake/internal/wire"
)

// servingArg marks the process's second life, which begins confined. The
// version of Landlock's interface follows it, 0 for none.
const servingArg = "serve"

// errServe says that there is no second life and this one serves.
var errServe = errors.New("serve")

// errEnd is the end of the control socket.
var errEnd = io.EOF

// memoryLimit is where the garbage collector becomes eager, in bytes.
const memoryLimit = 256 << 20

// IsRole says whether a program with these arguments is to be the file server:
// main asks before it does anything else and then exits with what [Main]
// returns.
func IsRole(args []string) bool { return len(args) > 0 && args[0] == processName }

// Main is the process. It serves until its parent lets go of it, and returns
// the exit code.
func Main(args []string) int { return run(args, protocols{serve9P: serve9P, serveFUSE: serveFUSE}) }

func run(args []string, p protocols) int {
	err := live(args, p)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func live(args []string, p protocols) error {
	nameProcess()
	told := os.NewFile(fdDescription, "description")
	d, err := readDescription(told)
	if err != nil {
		return err
	}
	landlock := ""
	switch {
	case len(args) == 1:
		if err := confine(d); !errors.Is(err, errServe) {
			return err
		}
	case len(args) == 3 && args[1] == servingArg:
		landlock = args[2]
	default:
		return fmt.Errorf("%s is run by an app, not by people", processName)
	}
	told.Close()
	return serve(d, landlock, p)
}

// serve is the second life.
func serve(d *description, landlock string, p protocols) error {
	if err := checkParent(d); err != nil {
		return err
	}
	debug.SetMemoryLimit(memoryLimit)
	syscall.Umask(0) // a guest says itself which modes its files get
	c, err := net.FileConn(os.NewFile(fdControl, "control"))
	if err != nil {
		return fmt.Errorf("open the control socket: %w", err)
	}
	control := c.(*net.UnixConn)
	defer control.Close()
	say := &reporter{conn: control}
	s := &server{protocols: p, say: say}
	ctx, cancel := context.WithCancel(context.Background())
	defer s.wait()
	defer cancel()
	if err := s.open(ctx, d); err != nil {
		say.send(report{Type: reportFailed, Text: err.Error()})
		return nil
	}
	say.log("%s", confinement(landlock))
	say.send(report{Type: reportReady})
	return s.take(ctx, control)
}

// confinement is for --verbose.
func confinement(landlock string) string {
	if abi, err := strconv.Atoi(landlock); err == nil && abi > 0 {
		return fmt.Sprintf("the file server is confined to the volumes by Landlock (ABI %d)", abi)
	}
	return "the file server is not confined by Landlock, which this system's kernel lacks: only the way it walks keeps the guest in the volumes"
}

// take serves the connections that come on the control socket until it ends.
func (s *server) take(ctx context.Context, control *net.UnixConn) error {
	for {
		f, err := receiveFile(control)
		if errors.Is(err, errEnd) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("take a connection: %w", err)
		}
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			s.say.log("a connection of the guest cannot be served: %v", err)
			continue
		}
		s.connections.Go(func() { s.connection(ctx, conn) })
	}
}

// A reporter sends reports to the parent.
type reporter struct {
	mu   sync.Mutex
	conn net.Conn
}

// send sends m. A parent that does not take it is gone, which shows elsewhere.
func (r *reporter) send(m report) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return wire.WriteJSON(r.conn, m, reportLimit)
}

func (r *reporter) log(format string, args ...any) { r.say(reportLog, format, args...) }

func (r *reporter) warn(format string, args ...any) { r.say(reportWarning, format, args...) }

func (r *reporter) say(kind, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(text) > maxLine {
		text = text[:maxLine]
	}
	_ = r.send(report{Type: kind, Text: printable(text)})
}
