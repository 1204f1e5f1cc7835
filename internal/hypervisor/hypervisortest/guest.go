package hypervisortest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

// limit is how long anything may take before the suite calls it hung. It is
// far from what anything takes.
const limit = 2 * time.Minute

// A Guest is what the suite's VMs boot.
type Guest struct {
	Arch   string
	Kernel hypervisor.Resource
	Initrd hypervisor.Resource
	// CommandLine is added to every VM's.
	CommandLine string
	// MemoryMiB is enough for the guest.
	MemoryMiB int
}

// A Machine is a VM with the suite's guest in it.
type Machine struct {
	hypervisor.VM
	Console *Console
	Dir     string
	ready   net.Listener
}

// Boot makes a VM with the suite's guest, starts it, and waits until the guest
// is up. mod, if not nil, changes the configuration first. The test's end
// closes the VM.
func (g Guest) Boot(t testing.TB, d hypervisor.Driver, mod func(*hypervisor.Config)) *Machine {
	t.Helper()
	m := g.New(t, d, mod)
	m.StartAndWait(t)
	return m
}

// New makes a VM with the suite's guest.
func (g Guest) New(t testing.TB, d hypervisor.Driver, mod func(*hypervisor.Config)) *Machine {
	t.Helper()
	m, err := g.TryNew(t, d, mod)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return m
}

// TryNew is New for a VM that may be impossible.
func (g Guest) TryNew(t testing.TB, d hypervisor.Driver, mod func(*hypervisor.Config)) (*Machine, error) {
	t.Helper()
	// Not TempDir: its names are too long for sockets.
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	console := &Console{}
	cfg := hypervisor.Config{
		Arch:        g.Arch,
		Kernel:      g.Kernel,
		Initrd:      g.Initrd,
		CommandLine: strings.TrimSpace("quiet " + g.CommandLine),
		CPUs:        1,
		MemoryMiB:   g.MemoryMiB,
		Dir:         dir,
		Console:     console,
	}
	if mod != nil {
		mod(&cfg)
	}
	vm, err := d.New(t.Context(), cfg)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if t.Failed() {
			t.Logf("console:\n%s", console)
		}
	})
	ready, err := vm.ListenVsock(testguest.PortReady)
	if err != nil {
		t.Fatalf("ListenVsock: %v", err)
	}
	t.Cleanup(func() { ready.Close() })
	return &Machine{VM: vm, Console: console, Dir: dir, ready: ready}, nil
}

// StartAndWait starts the VM and waits for its guest.
func (m *Machine) StartAndWait(t testing.TB) {
	t.Helper()
	if err := m.Start(t.Context()); err != nil {
		t.Fatalf("Start: %v", err)
	}
	if err := m.WaitReady(); err != nil {
		t.Fatalf("the guest does not come up: %v\nconsole:\n%s", err, m.Console)
	}
}

// WaitReady waits for the guest's word that it is up.
func (m *Machine) WaitReady() error {
	ended := make(chan struct{})
	defer close(ended)
	go func() { // a VM that dies never connects
		died := make(chan struct{})
		go func() {
			m.Wait()
			close(died)
		}()
		select {
		case <-died:
			m.ready.Close()
		case <-time.After(limit):
			m.ready.Close()
		case <-ended:
		}
	}()
	conn, err := m.ready.Accept()
	if err == nil {
		return conn.Close()
	}
	if m.State() == hypervisor.StateStopped {
		exit, _ := m.Wait()
		return fmt.Errorf("the VM ended: %+v", exit)
	}
	return err
}

// Dial connects to a port of the guest, which is up.
func (m *Machine) Dial(port uint32) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := m.DialVsock(ctx, port)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(limit))
}

// Ask has the guest do something.
func (m *Machine) Ask(q testguest.Request) (testguest.Reply, error) {
	conn, err := m.Dial(testguest.PortControl)
	if err != nil {
		return testguest.Reply{}, err
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return testguest.Reply{}, err
	}
	var r testguest.Reply
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return r, fmt.Errorf("the guest does not answer %s: %w", q.Op, err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// MustAsk is Ask for what must work.
func (m *Machine) MustAsk(t testing.TB, q testguest.Request) testguest.Reply {
	t.Helper()
	r, err := m.Ask(q)
	if err != nil {
		t.Fatalf("the guest's %s: %v", q.Op, err)
	}
	return r
}

// End has the guest end its machine and returns how it ended.
func (m *Machine) End(t testing.TB, op string) hypervisor.Exit {
	t.Helper()
	if r, err := m.Ask(testguest.Request{Op: op}); err == nil || r.Error != "" {
		t.Fatalf("%s: the guest answers %+v, %v", op, r, err)
	}
	return m.WaitEnd(t)
}

// WaitEnd is Wait with a limit.
func (m *Machine) WaitEnd(t testing.TB) hypervisor.Exit {
	t.Helper()
	type result struct {
		exit hypervisor.Exit
		err  error
	}
	got := make(chan result, 1)
	go func() {
		exit, err := m.Wait()
		got <- result{exit, err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			t.Errorf("Wait: %v", r.err)
		}
		return r.exit
	case <-time.After(limit):
		t.Fatalf("the VM does not end\nconsole:\n%s", m.Console)
		panic("unreachable")
	}
}

// A Console keeps what the guest's kernel writes.
type Console struct {
	mu     sync.Mutex
	buf    strings.Builder
	change chan struct{} // closed at the next Write, if somebody waits
	inside bool
	broken bool
}

// Write takes a part of it. Two at a time break the contract.
func (c *Console) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.broken = c.broken || c.inside
	c.inside = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inside = false
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf.Write(b)
	if c.change != nil {
		close(c.change)
		c.change = nil
	}
	return len(b), nil
}

// String is all of it.
func (c *Console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

// WaitFor waits until text was written.
func (c *Console) WaitFor(t testing.TB, text string) {
	t.Helper()
	timeout := time.After(limit)
	for {
		c.mu.Lock()
		found := strings.Contains(c.buf.String(), text)
		if c.change == nil {
			c.change = make(chan struct{})
		}
		change := c.change
		c.mu.Unlock()
		if found {
			return
		}
		select {
		case <-change:
		case <-timeout:
			t.Fatalf("the console never says %q", text)
		}
	}
}
