package app

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"bake/internal/hypervisor"
	"bake/internal/instance"
	"bake/internal/platform"
	"bake/internal/service/ssh"
	"bake/internal/wire"
)

// A life is that of one instance: from its registration to its exit code, over
// all the boots that a restart policy makes of it.
type life struct {
	img     *Image
	options Options
	driver  hypervisor.Driver
	plan    func() (*plan, error)
	stdio   Stdio
	signals <-chan os.Signal
	notify  *notifier // nil without a service manager
	starter *starter  // nil in the foreground

	// stdout and stderr are the container's, and say takes what bake itself has
	// to tell.
	stdout, stderr, say io.Writer
	log                 *logFile // nil in the foreground

	dir    *platform.RunDir
	reg    *instance.Registration
	keys   *ssh.Keys // nil without a server in the guest
	orders chan order

	// over is set when it was asked to end: there is no restart any more.
	over atomic.Bool
	// ran says that the container's process has run. since is when that of the
	// latest boot began; it is the supervising goroutine's.
	ran   atomic.Bool
	since time.Time

	mu sync.Mutex
	// guest is what boots or runs now, nil between two boots. changed is closed
	// and replaced whenever that changes.
	guest   *supervisor
	changed chan struct{}
}

// run lives it.
func (l *life) run(ctx context.Context) (code int, err error) {
	l.orders = make(chan order, 16)
	l.changed = make(chan struct{})
	pl, err := l.plan()
	if err != nil {
		return 0, err
	}
	// What others left is no reason not to run.
	_, _ = platform.Sweep()
	if l.dir, err = platform.NewRunDir(); err != nil {
		return 0, err
	}
	// The last thing: whoever waits for the end of this instance waits for this.
	defer func() {
		if cerr := l.dir.Close(); err == nil && cerr != nil {
			code, err = 0, cerr
		}
	}()
	if err := l.openStreams(); err != nil {
		return 0, err
	}
	defer l.closeStreams()
	if !l.options.NoSSH {
		if l.keys, err = ssh.NewKeys(); err != nil {
			return 0, err
		}
	}
	if l.reg, err = instance.Register(l.dir, l.info(pl), handler{l}); err != nil {
		return 0, err
	}
	defer func() {
		exit := instance.Exit{Code: code}
		if err != nil {
			exit = instance.Exit{Code: codeOf(err), Error: Sentence(err)}
			l.logError(err)
		}
		if cerr := l.reg.Close(exit); cerr != nil {
			warn(l.say, "%s", Sentence(cerr))
		}
	}()
	l.notify.say("STATUS=The guest boots")
	defer l.notify.say(daemon.SdNotifyStopping)

	serveCtx, stop := context.WithCancel(ctx)
	var services sync.WaitGroup
	defer services.Wait()
	defer stop()
	services.Go(func() { l.notify.watch(serveCtx, l.alive) })
	if err := l.startSSH(serveCtx, &services); err != nil {
		return 0, err
	}
	return l.boots(ctx, pl)
}

// openStreams decides where the output goes.
func (l *life) openStreams() error {
	l.stdout, l.stderr, l.say = l.stdio.Stdout, l.stdio.Stderr, l.stdio.Stderr
	if l.starter == nil {
		return nil
	}
	log, err := newLogFile(instance.LogIn(l.dir.Path()))
	if err != nil {
		return err
	}
	l.log = log
	l.stdout, l.stderr, l.say = log, log, io.MultiWriter(log, l.starter)
	return nil
}

func (l *life) closeStreams() {
	if l.log != nil {
		l.log.close()
	}
}

// logError leaves the reason of the end where somebody may look for it.
func (l *life) logError(err error) {
	if l.log != nil {
		warn(l.log, "%s", Sentence(err))
	}
}

// info is what others are told first.
func (l *life) info(pl *plan) instance.Info {
	exe, _ := os.Executable()
	m := l.img.Manifest
	return instance.Info{
		Name: l.options.Name, App: l.img.File.ID(), Exe: exe, Image: m.Image.Ref, Digest: m.Image.Digest,
		Command: pl.manifest.Process.Args, Hypervisor: l.driver.Name(), CPUs: pl.config.CPUs, MemoryMiB: pl.config.MemoryMiB,
		Started: time.Now(), State: instance.StateStarting,
		Restart: l.options.Restart.String(), Detached: l.starter != nil, Keep: l.options.Keep,
	}
}

// startSSH gives the instance what one needs to log in.
func (l *life) startSSH(ctx context.Context, wg *sync.WaitGroup) error {
	if l.keys == nil {
		return nil
	}
	info := l.reg.Info()
	return startSSH(ctx, wg, sshService{
		keys: l.keys, dir: l.dir.Path(), id: info.ID, exe: info.Exe, dial: l.dialSSH,
		warn: func(err error) { warn(l.say, "%s", Sentence(err)) },
	}, l.options.SSH)
}

// boots boots the planned VM, and others as the restart policy has it.
func (l *life) boots(ctx context.Context, pl *plan) (int, error) {
	var pauses backoff
	for restarts := 0; ; restarts++ {
		l.since = time.Time{}
		code, err := l.bootUntilRun(ctx, pl)
		if !l.again(ctx, code, err, restarts) {
			return code, err
		}
		if err != nil {
			warn(l.say, "%s", Sentence(err))
		}
		l.update(func(i *instance.Info) {
			i.State, i.Health, i.Ports, i.Restarts = instance.StateRestarting, "", nil, restarts+1
		})
		l.notify.say("STATUS=The container ended and is started again")
		var ran time.Duration
		if !l.since.IsZero() {
			ran = time.Since(l.since)
		}
		if !l.rest(ctx, pauses.pause(ran)) {
			return code, err
		}
		l.update(func(i *instance.Info) { i.State, i.Started = instance.StateStarting, time.Now() })
		pl = nil
	}
}

// again says whether there is another boot. What never ran fails at once: who
// started it is there to see why.
func (l *life) again(ctx context.Context, code int, err error, restarts int) bool {
	if err != nil {
		code = codeOf(err)
	}
	return ctx.Err() == nil && l.ran.Load() && !l.over.Load() && l.options.Restart.again(code, restarts)
}

// rest waits before a restart, and says whether there is still to be one.
func (l *life) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return !l.over.Load()
		case sig := <-l.signals:
			if asksToStop(sig) {
				l.endForGood()
				return false
			}
		case o := <-l.orders:
			if o.stop {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}

// bootsAtOnce is how often a guest is booted that asks for another boot.
const bootsAtOnce = 3

// A bootAgainError is the failure of a guest before its container ran, which
// another boot need not have.
type bootAgainError struct{ error }

// bootUntilRun boots a VM, and another one if the first asks for that. pl is the
// plan of the first; nil is none yet.
func (l *life) bootUntilRun(ctx context.Context, pl *plan) (code int, err error) {
	for boot := 1; ; boot++ {
		if pl == nil {
			if pl, err = l.plan(); err != nil {
				return 0, err
			}
		}
		code, err := l.boot(ctx, pl)
		var again *bootAgainError
		if boot == bootsAtOnce || !errors.As(err, &again) || l.over.Load() {
			return code, err
		}
		if l.options.Verbose {
			warn(l.say, "boot again: %v", err)
		}
		pl = nil
	}
}

// endForGood is called when the instance is asked to end.
func (l *life) endForGood() {
	if l.over.Swap(true) {
		return
	}
	l.update(func(i *instance.Info) { i.State = instance.StateStopping })
	l.notify.say(daemon.SdNotifyStopping, "STATUS=The container was asked to end")
}

// runs is called when the container's process does.
func (l *life) runs(health *wire.Health) {
	l.update(func(i *instance.Info) {
		if !l.over.Load() {
			i.State = instance.StateRunning
		}
		if health != nil {
			i.Health = wire.HealthStarting
		}
	})
	l.since = time.Now()
	first := !l.ran.Swap(true)
	l.notify.say(daemon.SdNotifyReady, "STATUS=The container runs")
	if first && l.starter != nil {
		l.starter.running(l.dir.ID())
	}
}

// healthIs is called when the container's health has changed.
func (l *life) healthIs(health string) {
	l.update(func(i *instance.Info) { i.Health = health })
	l.notify.say("STATUS=The container runs and is " + health)
}

// update changes what others see. A file that cannot be written is no reason to
// end a container.
func (l *life) update(f func(*instance.Info)) {
	if err := l.reg.Update(f); err != nil {
		warn(l.say, "%s", Sentence(err))
	}
}

// setGuest says what boots now; nil is nothing.
func (l *life) setGuest(s *supervisor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.guest = s
	close(l.changed)
	l.changed = make(chan struct{})
}

// current is what boots or runs, and what is closed when that changes.
func (l *life) current() (*supervisor, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guest, l.changed
}

// alive says whether the guest has answered within that time.
func (l *life) alive(within time.Duration) bool {
	s, _ := l.current()
	return s == nil || s.pulse.alive(within)
}
