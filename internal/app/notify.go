package app

import (
	"context"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A notifier tells the service manager how the app is, as sd_notify(3) has it. A
// nil one has no manager to tell.
type notifier struct {
	conn *net.UnixConn
	// watchdog is how long the manager waits for a sign of life; 0 is for ever.
	watchdog time.Duration
}

// notifySocket is the variable that names the manager's socket.
const notifySocket = "NOTIFY_SOCKET"

// newNotifier finds the manager in the environment, and takes it out there: it is
// this process's alone, and no VMM or file server may speak for it.
func newNotifier() (*notifier, error) {
	watchdog, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		return nil, err
	}
	path := os.Getenv(notifySocket)
	if path == "" {
		return nil, nil
	}
	if err := os.Unsetenv(notifySocket); err != nil {
		return nil, err
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return &notifier{conn, watchdog}, nil
}

// say sends assignments such as READY=1. A manager that does not take them is no
// reason to end a container.
func (n *notifier) say(assignments ...string) {
	if n == nil {
		return
	}
	n.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = n.conn.Write([]byte(strings.Join(assignments, "\n")))
}

// watch gives a sign of life for as long as alive says so, until ctx ends.
func (n *notifier) watch(ctx context.Context, alive func(within time.Duration) bool) {
	if n == nil || n.watchdog <= 0 {
		return
	}
	tick := time.NewTicker(max(n.watchdog/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if alive(n.watchdog / 2) {
				n.say(daemon.SdNotifyWatchdog)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (n *notifier) close() {
	if n != nil {
		n.conn.Close()
	}
}
