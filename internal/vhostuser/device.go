//go:build linux

package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// DefaultMaxConns is how many connections a device carries unless told
// otherwise.
const DefaultMaxConns = 4096

// clientBacklog is how many clients of the host may wait to be taken up; the
// kernel caps it at net.core.somaxconn.
const clientBacklog = 4096

// Config describes a device.
type Config struct {
	// CID is the guest's address, from 3 to 2^32-2 (virtio 1.2, 5.10.4).
	CID uint64
	// Path is the Unix socket that clients of the host connect to; what the
	// guest dials goes to Path_<port>. At most 107 bytes (unix(7)).
	Path string
	// MaxConns bounds the connections at a time, with the ones that are being
	// made and the ones that the host has not read to their end. Each takes a
	// descriptor and up to 256 KiB. 0 is DefaultMaxConns.
	MaxConns int
	// Logf is told what a person should know, rarely. It may be nil.
	Logf func(format string, args ...any)
}

// Stats are counts since the device was made.
type Stats struct {
	Open         int64  // connections now, in whatever state
	FromHost     uint64 // connections that the host made and the guest took
	FromGuest    uint64 // connections that the guest made and the host took
	Refused      uint64 // connections that nobody took, or for which there was no place
	BytesToGuest uint64
	BytesToHost  uint64
	Resets       uint64 // connections broken off for a fault of either side
	Dropped      uint64 // packets of the guest that were malformed or in another's name
}

type counters struct {
	open                             atomic.Int64
	fromHost, fromGuest, refused     atomic.Uint64
	toGuest, toHost, resets, dropped atomic.Uint64
}

// A Device is a virtio-vsock device and the socket Path. Its methods are safe
// for concurrent use.
type Device struct {
	config   Config
	listener int
	counters counters

	mu     sync.Mutex
	closed bool
	cancel context.CancelFunc // of the Serve that runs
	served chan struct{}      // closed at the end of that
}

// ErrClosed is returned by Serve after Close.
var ErrClosed = errors.New("the vsock device is closed")

// New makes a device and starts to listen on cfg.Path. Clients that connect
// before Serve wait; so do the ones that connect before the guest has started
// its driver.
func New(cfg Config) (*Device, error) {
	if cfg.CID <= hostCID || cfg.CID >= 1<<32-1 {
		return nil, fmt.Errorf("vsock CID %d cannot be a guest's; use one from 3 to %d", cfg.CID, uint32(1<<32-2))
	}
	if cfg.MaxConns < 0 {
		return nil, fmt.Errorf("at most %d vsock connections makes no sense", cfg.MaxConns)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	fd, err := listenUnix(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s for connections to the guest: %w", cfg.Path, err)
	}
	return &Device{config: cfg, listener: fd}, nil
}

func listenUnix(path string) (int, error) {
	if limit := len(unix.RawSockaddrUnix{}.Path) - 1; path == "" || len(path) > limit {
		return -1, fmt.Errorf("a path of %d bytes; the address of a Unix socket holds 1 to %d, use a shorter directory", len(path), limit)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		if err == unix.EADDRINUSE {
			return -1, fmt.Errorf("%w: another process serves it, or one that was killed left it behind; remove it if so", err)
		}
		return -1, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, clientBacklog); err != nil {
		unix.Close(fd)
		os.Remove(path)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// Serve is the back end for one front end: front is one end of a pair of
// connected Unix stream sockets whose other end QEMU has (-chardev
// socket,fd=N). It takes front over and closes it.
//
// It returns nil after the front end has hung up (QEMU has ended) and the host
// has read what the guest sent before; a host that reads nothing for 2 seconds
// does not hold it up. It returns the context's error when ctx ends, which
// breaks off everything, and another error when the front end breaks the
// protocol or the guest's memory is taken away. Whatever the guest does, it
// goes on. When it returns, nothing that it started or opened is left.
//
// The rule for what a guest sends last: whatever is in its ring when QEMU ends is
// delivered. A guest's own kernel may hold some of it back for a moment, so that
// a program there that must be sure closes its direction and reads to EOF before
// it powers off.
//
// One Serve runs at a time; a later one serves a new machine.
func (d *Device) Serve(ctx context.Context, front *os.File) error {
	defer front.Close()
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := d.serve(ctx, int(front.Fd())); err != nil {
		return fmt.Errorf("serve the vsock device of guest %d: %w", d.config.CID, err)
	}
	return nil
}

// begin registers a Serve; done ends that.
func (d *Device) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, nil, ErrClosed
	}
	if d.served != nil {
		return nil, nil, errors.New("the vsock device serves another machine")
	}
	ctx, d.cancel = context.WithCancel(ctx)
	d.served = make(chan struct{})
	return ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.cancel()
		close(d.served)
		d.cancel, d.served = nil, nil
	}, nil
}

func (d *Device) serve(ctx context.Context, front int) (err error) {
	l, err := newLoop(d, front)
	if err != nil {
		return err
	}
	defer l.close()
	// This goroutine's alone; see contain.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { contain(recover(), &err) }()
	return l.run(ctx)
}

// Stats returns the counts up to now.
func (d *Device) Stats() Stats {
	c := &d.counters
	return Stats{
		Open:         c.open.Load(),
		FromHost:     c.fromHost.Load(),
		FromGuest:    c.fromGuest.Load(),
		Refused:      c.refused.Load(),
		BytesToGuest: c.toGuest.Load(),
		BytesToHost:  c.toHost.Load(),
		Resets:       c.resets.Load(),
		Dropped:      c.dropped.Load(),
	}
}

// Close ends a Serve that runs, waits for it, and removes the socket Path.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	served := d.served
	if served != nil {
		d.cancel()
	}
	d.mu.Unlock()
	if served != nil {
		<-served
	}
	err := errors.Join(os.Remove(d.config.Path), os.NewSyscallError("close", unix.Close(d.listener)))
	if err != nil {
		return fmt.Errorf("close the vsock device of guest %d: %w", d.config.CID, err)
	}
	return nil
}
