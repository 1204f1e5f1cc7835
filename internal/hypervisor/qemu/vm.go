//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/platform"
	"bake/internal/vsock"
)

// killAfter is how long QEMU has after SIGTERM, which makes it write back its
// disks and end.
const killAfter = 3 * time.Second

// stderrLimit bounds what is kept of QEMU's messages, in bytes.
const stderrLimit = 4 << 10

// A VM is one QEMU process with its vsock back end.
type VM struct {
	machine *machine
	console io.Writer
	dir     string
	vsock   vsock.Hybrid
	stderr  *tail

	// done is closed when the VM has ended for good; exit and err are set
	// before.
	done chan struct{}
	exit hypervisor.Exit
	err  error

	mu      sync.Mutex
	state   hypervisor.State
	files   []*os.File // kernel, initrd, disks, shares, until QEMU has them
	process *platform.Process
	stopped bool // by Stop or Close
}

var _ hypervisor.VM = (*VM)(nil)

func newVM(m *machine, cfg hypervisor.Config) (*VM, error) {
	console := cfg.Console
	if console == nil {
		console = io.Discard
	}
	vm := &VM{
		machine: m,
		console: console,
		dir:     cfg.Dir,
		vsock:   vsock.Hybrid{Path: filepath.Join(cfg.Dir, "v.sock")},
		stderr:  &tail{limit: stderrLimit},
		done:    make(chan struct{}),
	}
	if err := vm.open(cfg); err != nil {
		closeAll(vm.files)
		return nil, err
	}
	return vm, nil
}

// open takes what QEMU will inherit, in the order of machine.args.
func (vm *VM) open(cfg hypervisor.Config) error {
	add := func(f *os.File, err error) error {
		if err == nil {
			vm.files = append(vm.files, f)
		}
		return err
	}
	if err := add(wholeFile(cfg.Dir, cfg.Kernel)); err != nil {
		return err
	}
	if vm.machine.initrd {
		if err := add(wholeFile(cfg.Dir, cfg.Initrd)); err != nil {
			return err
		}
	}
	for _, disk := range cfg.Disks {
		if err := add(diskFile(cfg.Dir, disk)); err != nil {
			return err
		}
	}
	for _, share := range cfg.Shares {
		if err := add(duplicate(share.Socket, "socket of the share "+share.Tag)); err != nil {
			return err
		}
	}
	return nil
}

// Start starts QEMU. What QEMU finds wrong after that shows in [VM.Wait].
func (vm *VM) Start(ctx context.Context) error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	switch {
	case vm.stopped:
		return errors.New("start the VM: it was stopped")
	case vm.state != hypervisor.StateNew:
		return errors.New("start the VM: it was started already")
	}
	err := ctx.Err()
	if err == nil {
		err = vm.start()
	}
	if err != nil {
		vm.end(hypervisor.Exit{Reason: "it failed to start: " + err.Error()}, nil)
		return fmt.Errorf("start the VM: %w", err)
	}
	return nil
}

// start is called with mu held.
func (vm *VM) start() error {
	if err := vm.machine.setClock(); err != nil {
		return err
	}
	device, err := newDevice(vm.vsock.Path)
	if err != nil {
		return err
	}
	defer device.peer.Close()
	boot := vm.files[:1]
	if vm.machine.initrd {
		boot = vm.files[:2]
	}
	cmd := newCommand(vm.machine.bin.command, vm.machine.env, vm.machine.args())
	cmd.ExtraFiles = append(append(append(cmd.ExtraFiles, boot...), device.peer), vm.files[len(boot):]...)
	cmd.Stderr = vm.stderr
	// The wrapping makes it a pipe in any case: if the console is a file, such
	// as our standard error, QEMU must not get that itself.
	cmd.Stdout = struct{ io.Writer }{vm.console}
	process, err := platform.StartProcess(cmd)
	if err != nil {
		return errors.Join(fmt.Errorf("run %s: %w", vm.machine.bin.name(), err), device.close())
	}
	if err := process.NoCoreDump(); err != nil {
		process.Signal(killSignal)
		process.Wait()
		return errors.Join(err, device.close())
	}
	closeAll(vm.files)
	vm.files = nil
	vm.process = process
	vm.state = hypervisor.StateRunning
	go vm.supervise(process, device)
	return nil
}

// supervise waits for QEMU's end and then takes down the rest. QEMU goes
// first: it complains about a back end that is gone.
func (vm *VM) supervise(process *platform.Process, device *device) {
	gaveUp := false
	select {
	case <-process.Done():
	case <-device.served:
		// QEMU has hung up because it ends, or the back end gave up: a guest
		// without vsock is lost.
		if gaveUp = device.err != nil; gaveUp {
			process.Signal(killSignal)
		}
	}
	err := process.Wait()
	deviceErr := device.close()
	vm.mu.Lock()
	defer vm.mu.Unlock()
	exit := vm.judge(err)
	if deviceErr != nil && (gaveUp || exit.Clean) {
		exit = hypervisor.Exit{Reason: deviceErr.Error()}
	}
	vm.end(exit, nil)
}

// end is called with mu held, once.
func (vm *VM) end(exit hypervisor.Exit, err error) {
	vm.exit, vm.err = exit, errors.Join(err, closeAll(vm.files))
	vm.files = nil
	vm.state = hypervisor.StateStopped
	close(vm.done)
}

// judge turns QEMU's exit status into an Exit. It is called with mu held.
func (vm *VM) judge(err error) hypervisor.Exit {
	name := vm.machine.bin.name()
	said := vm.stderr.because()
	var status *exec.ExitError
	switch {
	case vm.stopped:
		return hypervisor.Exit{Reason: "the VM was stopped"}
	case errors.As(err, &status):
		if ws, ok := status.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return hypervisor.Exit{Reason: fmt.Sprintf("%s was killed by signal %d (%v)%s", name, ws.Signal(), ws.Signal(), said)}
		}
		return hypervisor.Exit{Reason: fmt.Sprintf("%s ended with exit status %d%s", name, status.ExitCode(), said)}
	case strings.Contains(said, "terminating on signal"):
		// QEMU takes SIGTERM, SIGINT and SIGHUP, and exits with status 0.
		return hypervisor.Exit{Reason: name + " was told to end" + said}
	}
	// Another error is of the console's reader, which is not the VM's fault.
	return hypervisor.Exit{Clean: true}
}

// Stop ends QEMU: the guest has nothing that QEMU could ask. SIGTERM first,
// SIGKILL when ctx or QEMU's time for it ends.
func (vm *VM) Stop(ctx context.Context) error {
	process := vm.stopping()
	if process == nil {
		return nil
	}
	err := process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(killAfter)
	defer timer.Stop()
	select {
	case <-vm.done:
		return nil
	case <-ctx.Done():
	case <-timer.C:
	}
	err = errors.Join(err, process.Signal(killSignal))
	if err != nil {
		return fmt.Errorf("stop the VM: %w", err)
	}
	<-vm.done
	return nil
}

// stopping marks the VM as stopped and returns the process to end, or nil if
// the VM has ended.
func (vm *VM) stopping() *platform.Process {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	switch vm.state {
	case hypervisor.StateNew:
		vm.stopped = true
		vm.end(hypervisor.Exit{Reason: "the VM was stopped before it was started"}, nil)
		return nil
	case hypervisor.StateRunning:
		vm.stopped = true
		return vm.process
	}
	return nil
}

// Close ends QEMU by force if it runs, and frees what New took.
func (vm *VM) Close() error {
	if process := vm.stopping(); process != nil {
		if err := process.Signal(killSignal); err != nil {
			return fmt.Errorf("close the VM: %w", err)
		}
	}
	<-vm.done
	return nil
}

// Wait returns when QEMU has ended, all of its console has been written, and
// the vsock back end has ended.
func (vm *VM) Wait() (hypervisor.Exit, error) {
	<-vm.done
	return vm.exit, vm.err
}

// State says what the VM is doing.
func (vm *VM) State() hypervisor.State {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.state
}

// PID is QEMU's process number, or 0 when it does not run.
func (vm *VM) PID() int {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.state != hypervisor.StateRunning {
		return 0
	}
	return vm.process.Pid()
}

// DialVsock connects to a port that the guest listens on.
func (vm *VM) DialVsock(ctx context.Context, port uint32) (net.Conn, error) {
	return vm.vsock.Dial(ctx, port)
}

// ListenVsock takes the guest's connections to a port of the host.
func (vm *VM) ListenVsock(port uint32) (net.Listener, error) {
	return vm.vsock.Listen(port)
}
