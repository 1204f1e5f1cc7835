//go:build linux

package qemu

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/platform"
)

const probeMemoryMiB = 256

// probeLimits is how long a probe boot may take. A kernel that runs says
// something at once and then ever again; one that spins in a KVM that does not
// work never does. All of it is long for the sake of KVM inside of an emulated
// machine.
type probeLimits struct{ first, silence, all time.Duration }

var defaultProbeLimits = probeLimits{6 * time.Second, 10 * time.Second, time.Minute}

// probeKVM boots the kernel under KVM with nothing to run, and returns nil
// when the kernel gets as far as to find that out: it panics, because there is
// no root filesystem. That /dev/kvm opens says little: nested and emulated
// KVMs are known that run no kernel.
func (d *Driver) probeKVM(ctx context.Context, bin *program, kind string, kernel hypervisor.Resource) error {
	limits := cmp.Or(d.probeLimits, &defaultProbeLimits)
	file, err := wholeFile("", kernel)
	if err != nil {
		return err
	}
	defer file.Close()
	cfg := hypervisor.Config{
		CommandLine: "earlyprintk=ttyS0 earlycon", // one for each architecture
		CPUs:        1,
		MemoryMiB:   probeMemoryMiB,
	}
	m, err := newMachine(bin, kind, accelKVM, d.Env, cfg)
	if err != nil {
		return err
	}
	m.initrd, m.vsock = false, false
	console := newWatcher([]byte("Kernel panic - not syncing: VFS: "))
	stderr := &tail{limit: 2048}
	cmd := newCommand(bin.command, d.Env, m.args())
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stdout, cmd.Stderr = console, stderr
	p, err := platform.StartProcess(cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", bin.name(), err)
	}
	defer func() {
		p.Signal(killSignal)
		<-p.Done()
	}()
	if err := p.NoCoreDump(); err != nil { // QEMU aborts on some KVMs
		return err
	}
	limit, silent := time.NewTimer(limits.all), time.NewTimer(limits.first)
	defer limit.Stop()
	defer silent.Stop()
	for {
		select {
		case <-console.seen:
			return nil
		case <-console.wrote:
			silent.Reset(limits.silence)
		case <-p.Done():
			if console.has() {
				return nil
			}
			if err := p.Wait(); err != nil {
				return fmt.Errorf("%s ended with %w%s", bin.name(), err, stderr.firstLine())
			}
			return errors.New("the kernel reset the machine before it was up")
		case <-silent.C:
			return errors.New("the kernel does not get anywhere")
		case <-limit.C:
			return fmt.Errorf("the kernel was not up within %v", limits.all)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A watcher waits for a text in what is written to it.
type watcher struct {
	text  []byte
	wrote chan struct{} // gets a value after writes
	seen  chan struct{} // closed when the text was written

	mu    sync.Mutex
	found bool
	last  []byte // the end of what was written, shorter than text
}

func newWatcher(text []byte) *watcher {
	return &watcher{text: text, wrote: make(chan struct{}, 1), seen: make(chan struct{})}
}

func (w *watcher) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.found {
		all := append(w.last, b...)
		if bytes.Contains(all, w.text) {
			w.found = true
			close(w.seen)
		}
		w.last = bytes.Clone(all[max(0, len(all)-len(w.text)+1):])
	}
	select {
	case w.wrote <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (w *watcher) has() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.found
}
