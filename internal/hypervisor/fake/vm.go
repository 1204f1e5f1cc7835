package fake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"bake/internal/hypervisor"
)

// A VM is a machine with its guest.
type VM struct {
	guest   func(context.Context, *Machine)
	machine *Machine

	done chan struct{}
	exit hypervisor.Exit // set before done is closed

	mu     sync.Mutex
	state  hypervisor.State
	cancel context.CancelFunc
}

var _ hypervisor.VM = (*VM)(nil)

// Start runs the guest.
func (vm *VM) Start(ctx context.Context) error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.state != hypervisor.StateNew {
		return errors.New("start the VM: it was started or stopped already")
	}
	if err := ctx.Err(); err != nil {
		vm.end(hypervisor.Exit{Reason: "it failed to start: " + err.Error()})
		return fmt.Errorf("start the VM: %w", err)
	}
	vm.state = hypervisor.StateRunning
	var run context.Context
	run, vm.cancel = context.WithCancel(context.Background())
	go vm.run(run)
	return nil
}

func (vm *VM) run(ctx context.Context) {
	vm.guest(ctx, vm.machine)
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.cancel()
	vm.end(vm.machine.exit())
}

// end is called with mu held, once.
func (vm *VM) end(exit hypervisor.Exit) {
	vm.machine.host.close()
	vm.machine.guest.close()
	vm.exit, vm.state = exit, hypervisor.StateStopped
	close(vm.done)
}

// Kill ends the VM as the death of its VMM does.
func (vm *VM) Kill() { vm.stop("the fake VMM was killed by signal killed") }

// Stop ends the guest's context and waits for it.
func (vm *VM) Stop(context.Context) error {
	vm.stop("the VM was stopped")
	<-vm.done
	return nil
}

// Close does what Stop does.
func (vm *VM) Close() error { return vm.Stop(context.Background()) }

func (vm *VM) stop(reason string) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	exit := hypervisor.Exit{Reason: reason}
	switch vm.state {
	case hypervisor.StateNew:
		vm.end(exit)
	case hypervisor.StateRunning:
		vm.machine.finish(exit)
		vm.cancel() // first: a guest that then fails to connect must know why
		vm.machine.host.close()
		vm.machine.guest.close()
	}
}

// Wait returns when the guest has returned.
func (vm *VM) Wait() (hypervisor.Exit, error) {
	<-vm.done
	return vm.exit, nil
}

// State says what the VM is doing.
func (vm *VM) State() hypervisor.State {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.state
}

// DialVsock connects to a port that the guest listens on.
func (vm *VM) DialVsock(ctx context.Context, port uint32) (net.Conn, error) {
	return vm.machine.guest.dial(ctx, port)
}

// ListenVsock takes the guest's connections to a port of the host.
func (vm *VM) ListenVsock(port uint32) (net.Listener, error) { return vm.machine.host.listen(port) }
