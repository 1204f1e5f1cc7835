//go:build linux

package sshd

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/agent/container"
	"bake/internal/relay"
	"bake/internal/wire"
)

const (
	// maxConns is how many connections are served at once. Others wait.
	maxConns = 64
	// maxListeners is how many addresses and sockets all clients together may
	// listen on.
	maxListeners = 256
	// loginTime bounds what happens before a login is complete.
	loginTime = time.Minute
	// endTime bounds how long sessions may take to tell the end of their
	// programs, which end with the container.
	endTime = 2 * time.Second
)

// A channel holds at most 2 MiB that its receiver does not take (the window of
// golang.org/x/crypto/ssh), and there are no more of them than fit a quarter of
// the guest's memory, within these bounds.
const (
	memoryPerChannel = 8 << 20
	minChannels      = 64
	maxChannels      = 1024
)

// A Container is where sessions run.
type Container interface {
	// Exec starts a program. The terminal is its pseudoterminal's master, for
	// the caller to close, if it asked for one. The error is a *container.Error.
	Exec(context.Context, container.ExecConfig) (p Program, terminal *os.File, err error)
	// LookupLogin finds an account by what was given as user name.
	LookupLogin(user string) (container.Login, error)
	// EnterAs runs f where the container's files are, with an account's rights.
	EnterAs(a container.Account, f func() error) error
}

// A Program is what a session runs.
type Program interface {
	// Signal sends a signal to its process group.
	Signal(unix.Signal) error
	// Wait returns when it has ended.
	Wait() container.Exit
}

// In makes a Container of the guest's.
func In(c *container.Container) Container { return guestContainer{c} }

type guestContainer struct{ *container.Container }

func (c guestContainer) Exec(ctx context.Context, cfg container.ExecConfig) (Program, *os.File, error) {
	e, err := c.Container.Exec(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	return e, e.Terminal, nil
}

// A Config is what a server needs.
type Config struct {
	// Keys are the server's own and that of the one who may log in.
	Keys      wire.SSH
	Container Container
	// Lookup finds the addresses of a host's name, or of an address in text.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Log, unless nil, takes a line about what went wrong with a client.
	Log func(format string, args ...any)
}

type server struct {
	Config
	ssh       *ssh.ServerConfig
	channels  chan struct{} // one for each open channel
	listeners chan struct{} // one for each listener

	mu       sync.Mutex
	ended    bool           // no session begins any more
	sessions sync.WaitGroup // Add under mu
}

// Serve serves the connections of l until ctx ends or l fails; it closes l.
// When ctx ends, it takes no more sessions, gives those that there are a moment
// to tell how their programs ended, and ends the connections. Processes that
// still run by then are hung up.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	s, err := newServer(cfg)
	if err != nil {
		l.Close()
		return err
	}
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop := context.AfterFunc(ctx, func() {
		s.waitForSessions(endTime)
		end()
	})
	defer stop()
	if err := relay.Serve(serving, l, maxConns, s.serve); err != nil {
		return fmt.Errorf("accept an SSH connection: %w", err)
	}
	return nil
}

func newServer(cfg Config) (*server, error) {
	if len(cfg.Keys.HostKey) != ed25519.SeedSize || len(cfg.Keys.ClientKey) != ed25519.PublicKeySize {
		return nil, errors.New("the keys of the SSH server are not Ed25519 keys: build the app again so that carrier and initrd come from one bake")
	}
	host, err := ssh.NewSignerFromSigner(ed25519.NewKeyFromSeed(cfg.Keys.HostKey))
	if err != nil {
		return nil, fmt.Errorf("take the SSH server's key: %w", err)
	}
	client, err := ssh.NewPublicKey(ed25519.PublicKey(cfg.Keys.ClientKey))
	if err != nil {
		return nil, fmt.Errorf("take the SSH client's key: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	s := &server{
		Config:    cfg,
		channels:  make(chan struct{}, channelsFor(memory())),
		listeners: make(chan struct{}, maxListeners),
	}
	s.ssh = &ssh.ServerConfig{
		ServerVersion:     "SSH-2.0-bake",
		MaxAuthTries:      64, // a client's agent may offer many keys
		PublicKeyCallback: s.authenticate(client),
	}
	s.ssh.AddHostKey(host)
	return s, nil
}

// memory is the guest's, in bytes.
func memory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

func channelsFor(memory uint64) int {
	return int(min(max(memory/memoryPerChannel, minChannels), maxChannels))
}

// beginSession is false when no session may begin. Otherwise the caller calls
// sessions.Done.
func (s *server) beginSession() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.sessions.Add(1)
	return true
}

func (s *server) waitForSessions(limit time.Duration) {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.sessions.Wait()
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
