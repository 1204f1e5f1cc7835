//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/agent/container"
	"bake/internal/agent/link"
	"bake/internal/agent/modules"
	"bake/internal/agent/mounts"
	"bake/internal/agent/network"
	"bake/internal/agent/reaper"
	"bake/internal/agent/volumes"
	"bake/internal/wire"
)

// startTime bounds everything up to the start of the container's command, so
// that a step that hangs ends the guest. An emulated guest on a busy machine
// needs a few seconds.
const startTime = 2 * time.Minute

// dir is where the agent keeps its files, on the tmpfs at /run.
const dir = "/run/bake"

// An agent is the state of the guest.
type agent struct {
	version  string
	log      *logger
	reaper   *reaper.Reaper
	control  atomic.Pointer[control]
	manifest *wire.BootManifest
	received time.Time // when the manifest arrived
	streams  streams
	wayOut   chan error // beginHostnet's
	step     atomic.Pointer[string]
	advanced atomic.Bool // a step that takes long has got further
	volumes  *volumes.Volumes
}

// Run is the life of the guest. It does not return.
func Run(version string) {
	a := &agent{version: version, log: newLogger()}
	ignoreSignals()
	err := a.protect(a.live)
	if err != nil {
		a.fail(err)
	}
	a.end()
}

// protect turns a panic into an error.
func (a *agent) protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.always("panic: %v\n%s", p, debug.Stack())
			err = fmt.Errorf("bake's agent in the guest has a bug and panicked: %v", p)
		}
	}()
	return f()
}

// A step is one part of preparing the guest. Its error is the user's sentence.
type step struct {
	name string
	run  func(context.Context) error
}

func (a *agent) steps() []step {
	return []step{
		{"mount the kernel's filesystems", a.mountSystem},
		{"load the kernel modules", a.loadModules},
		{"connect to the host", a.connect},
		{"find the timer", a.findTimer},
		{"read the boot manifest", a.readManifest},
		{"set the clock", a.setClock},
		{"begin to open the way out", a.beginHostnet},
		{"mount the image", func(ctx context.Context) error { return mounts.MountImage(ctx, a.manifest.Rootfs) }},
		{"mount the ephemeral disk", func(ctx context.Context) error { return mounts.MountEphemeral(ctx, a.manifest.Ephemeral) }},
		{"mount the overlay", func(context.Context) error { return mounts.MountOverlay() }},
		{"mount the volumes", a.mountVolumes},
		{"set up the network", a.setUpNetwork},
		{"open the way out", a.finishHostnet},
		{"set up WireGuard", a.setUpWireGuard},
		{"set the kernel's parameters", a.setParameters},
		{"open the way in for published ports", a.servePorts},
		{"connect the streams", a.openStreams},
	}
}

// live prepares the guest, runs the container and reports its end.
func (a *agent) live() error {
	a.reaper = reaper.New()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started := make(chan struct{})
	go a.watchdog(started)

	for _, s := range a.steps() {
		a.step.Store(&s.name)
		before := time.Now()
		if err := s.run(ctx); err != nil {
			return err
		}
		a.log.verbose("%s: %v", s.name, time.Since(before).Round(10*time.Microsecond))
	}
	name := "start the container"
	a.step.Store(&name)
	if a.log.enabled.Load() {
		a.log.verbose("memory in use before the container starts: %s", memoryInUse())
	}
	before := time.Now()
	c, err := a.startContainer(ctx)
	if err != nil {
		return err
	}
	close(started)
	a.log.verbose("%s: %v", name, time.Since(before).Round(10*time.Microsecond))
	endSSH := a.serveSSH(c)
	control := a.control.Load()
	if err := control.send(wire.GuestMessage{Type: wire.GuestStarted}); err != nil {
		a.log.always("%v", err)
	}
	control.setCommand(c)
	testing, endTests := context.WithCancel(ctx)
	waitForTests := a.watchHealth(testing, c)

	exit := c.Wait()
	endTests()
	waitForTests()
	a.log.verbose("the container ended: %+v", exit)
	control.setCommand(nil)
	endSSH()
	a.closeVolumes()
	a.streams.Finish(control.output)
	return control.send(wire.GuestMessage{
		Type: wire.GuestExit, Code: exit.Code, Signal: exit.Signal, OutOfMemory: exit.OutOfMemory,
	})
}

// watchdog ends a guest whose preparation hangs. It touches nothing that the
// step that hangs may hold.
func (a *agent) watchdog(started <-chan struct{}) {
	for {
		select {
		case <-started:
			return
		case <-time.After(startTime):
		}
		if !a.advanced.Swap(false) {
			break
		}
	}
	a.tellFailure(125, fmt.Errorf("the guest did not manage to %s within %v", *a.step.Load(), startTime))
	if c := a.control.Load(); c != nil {
		c.waitForDone()
	}
	powerOff()
}

// fail ends the streams and tells why the guest ends.
func (a *agent) fail(err error) {
	code := 125
	var failed *container.Error
	if errors.As(err, &failed) {
		code = failed.Code
	}
	if a.streams != nil {
		a.streams.Close()
	}
	a.closeVolumes()
	a.tellFailure(code, err)
}

// tellFailure tells the kernel's console and the host why the guest ends.
func (a *agent) tellFailure(code int, err error) {
	a.log.always("%v", err)
	c := a.control.Load()
	if c == nil {
		return
	}
	if err := c.send(wire.GuestMessage{Type: wire.GuestFailed, Code: code, Message: err.Error(), Again: errors.Is(err, errNoTimer)}); err != nil {
		a.log.always("%v", err)
	}
}

// end waits until the host has read the last message and powers off.
func (a *agent) end() {
	if c := a.control.Load(); c != nil {
		c.waitForDone()
		if a.manifest != nil && a.manifest.NoReboot {
			a.log.always("the container has ended; the guest stays up until the host lets go of it (BAKE_NO_REBOOT)")
			select {} // the control connection's end powers off
		}
	}
	unmount()
	powerOff()
}

func (a *agent) mountSystem(context.Context) error {
	if err := mounts.LeaveInitramfs(); err != nil {
		return err
	}
	if err := mounts.System(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	// The OOM killer must take the container. It is no loss if it cannot be
	// told: what it looks for first is size.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		a.log.always("protect the agent from the OOM killer: %v", err)
	}
	return nil
}

func (a *agent) loadModules(context.Context) error {
	_, err := modules.Load("/modules")
	return err
}

// connect opens the control connection and says hello on it.
func (a *agent) connect(ctx context.Context) error {
	conn, err := link.Dial(ctx, wire.PortControl)
	if err != nil {
		return err
	}
	c := newControl(conn, a.log, powerOff)
	a.control.Store(c)
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("learn the kernel's version: %w", err)
	}
	return c.send(wire.GuestMessage{
		Type: wire.GuestHello, Agent: a.version, Kernel: unix.ByteSliceToString(uts.Release[:]),
	})
}

func (a *agent) readManifest(ctx context.Context) error {
	conn, err := link.Dial(ctx, wire.PortManifest)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(manifestTime)); err != nil {
		return fmt.Errorf("read the boot manifest: %w", err)
	}
	m, err := wire.ReadManifest(conn)
	if err != nil {
		return err
	}
	a.received = time.Now()
	a.manifest = m
	a.log.setVerbose(m.Verbose)
	return nil
}

// manifestTime bounds the reading of the manifest.
const manifestTime = 30 * time.Second

func (a *agent) setUpNetwork(context.Context) error {
	m := a.manifest
	if err := network.LoopbackUp(); err != nil {
		return err
	}
	if err := network.SetHostname(m.Hostname); err != nil {
		return err
	}
	if err := network.WriteHosts(hostsFile, hostnameFile, m.Hostname, m.Hosts); err != nil {
		return err
	}
	c, err := network.WriteResolvConf(resolvFile, m.Resolver)
	if err != nil {
		return err
	}
	a.control.Load().setResolvConf(c)
	return nil
}

// warn tells the user of something that the container can do without.
func (a *agent) warn(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	a.log.always("%s", message)
	if c := a.control.Load(); c != nil {
		_ = c.send(wire.GuestMessage{Type: wire.GuestLog, Message: message})
	}
}
