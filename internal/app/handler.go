package app

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"bake/internal/instance"
	"bake/internal/relay"
	"bake/internal/wire"
)

// An order is what another process asks this one for.
type order struct {
	// stop asks the container to end, within timeout; a negative one is the
	// app's own.
	stop    bool
	timeout time.Duration
	// signal, a Linux signal's name or number, goes to the container if stop is
	// not set.
	signal string
}

const (
	// dialPatience is how long the guest's SSH server may take to listen, once
	// the container runs.
	dialPatience = 20 * time.Second
	// dialPause is between two tries to connect to it.
	dialPause = 50 * time.Millisecond
	// statsPatience is how long the guest may take to count.
	statsPatience = 20 * time.Second
)

// A handler is a life as others see it, [instance.Handler].
type handler struct{ *life }

var _ instance.Handler = handler{}

// Stop has the supervisor, or the pause before a restart, end the container.
func (h handler) Stop(ctx context.Context, timeout time.Duration) error {
	h.endForGood()
	return h.give(ctx, order{stop: true, timeout: timeout})
}

// signalForm is what can be the name of a signal; the guest knows which ones are.
var signalForm = regexp.MustCompile(`^[A-Z0-9+-]{1,32}$`)

// Signal has the supervisor send a signal. The one that the container stops on,
// and SIGKILL, mean that it is not to be started again.
func (h handler) Signal(name string) error {
	signal, err := linuxSignal(name)
	if err != nil {
		return err
	}
	s, _ := h.current()
	if s == nil {
		return errors.New("the container does not run")
	}
	return h.give(context.Background(), order{signal: signal})
}

// linuxSignal writes a signal's name as the guest takes it.
func linuxSignal(name string) (string, error) {
	signal := strings.ToUpper(name)
	if !signalForm.MatchString(signal) {
		return "", fmt.Errorf("%.40q is no signal: give a name such as SIGUSR1, or a number", name)
	}
	if strings.Trim(signal, "0123456789") != "" && !strings.HasPrefix(signal, "SIG") {
		signal = "SIG" + signal
	}
	return signal, nil
}

func (h handler) give(ctx context.Context, o order) error {
	select {
	case h.orders <- o:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	default:
		return errors.New("too much is asked of this instance at once: try again")
	}
}

// Stats asks the guest, and counts what is used of the host.
func (h handler) Stats(ctx context.Context) (instance.Stats, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, statsPatience, errors.New("the guest does not answer"))
	defer cancel()
	s, err := h.running(ctx)
	if err != nil {
		return instance.Stats{}, err
	}
	guest, err := s.pulse.stats(ctx)
	if err != nil {
		return instance.Stats{}, err
	}
	stats := instance.Stats{Guest: guest}
	stats.HostCPUNanos, stats.HostMemory, err = hostUsage()
	return stats, err
}

// running waits until a container runs.
func (h handler) running(ctx context.Context) (*supervisor, error) {
	for {
		s, changed := h.current()
		var running <-chan struct{}
		if s != nil {
			running = s.running
		}
		select {
		case <-running:
			return s, nil
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait until the container runs: %w", context.Cause(ctx))
		}
		if h.over.Load() && s == nil {
			return nil, errors.New("it was asked to end")
		}
	}
}

// Guest connects to the SSH server, once the container runs and the server
// listens.
func (h handler) Guest(ctx context.Context, port uint32) (relay.Conn, error) {
	if port != wire.PortSSH {
		return nil, fmt.Errorf("port %d of the guest is not for others", port)
	}
	if h.keys == nil {
		return nil, errors.New("there is no SSH server in its guest: it was started with --no-ssh")
	}
	wait, cancel := context.WithTimeoutCause(ctx, h.options.BootTimeout, errors.New("its guest does not come up"))
	defer cancel()
	s, err := h.running(wait)
	if err != nil {
		return nil, err
	}
	dial, cancel := context.WithTimeoutCause(ctx, dialPatience, errors.New("the SSH server does not answer"))
	defer cancel()
	for {
		conn, err := s.vm.DialVsock(dial, port)
		if err == nil {
			return halves(conn)
		}
		// It begins to listen at about the time that the container begins to run.
		select {
		case <-time.After(dialPause):
		case <-s.done:
			return nil, errors.New("its guest has ended")
		case <-dial.Done():
			return nil, fmt.Errorf("connect to the guest's SSH server: %w: %w", context.Cause(dial), err)
		}
	}
}

// halves is a connection of a driver, which all can end one direction alone.
func halves(conn net.Conn) (relay.Conn, error) {
	c, ok := conn.(relay.Conn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("a connection to the guest is a %T, which cannot end one direction alone", conn)
	}
	return c, nil
}

// Key is the key of the run.
func (h handler) Key() ed25519.PrivateKey {
	if h.keys == nil {
		return nil
	}
	return h.keys.Client()
}

// dialSSH is Guest for the app's own socket.
func (l *life) dialSSH(ctx context.Context) (net.Conn, error) {
	return handler{l}.Guest(ctx, wire.PortSSH)
}
