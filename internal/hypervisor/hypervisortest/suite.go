package hypervisortest

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

// Options of [Run].
type Options struct {
	// Driver makes a driver.
	Driver func(t testing.TB) hypervisor.Driver
	Guest  Guest
	// Kill kills the VMM behind the driver's back.
	Kill func(t testing.TB, vm hypervisor.VM)
	// Share serves a directory to a file system device, and returns the end of
	// the socket that is for the VM. It is for drivers with VhostUserFS.
	Share func(t testing.TB, dir string) *os.File
	// Memory is how much of the host's memory the guest's takes, in bytes. It
	// is for drivers with ReturnsMemory.
	Memory func(t testing.TB, vm hypervisor.VM) int64
}

// Run runs the suite: about 17 boots.
func Run(t *testing.T, o Options) {
	s := suite{o.Guest, o}
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Available", s.available},
		{"Describe", s.describe},
		{"RefusesBadConfigs", s.refusesBadConfigs},
		{"OneVM", s.oneVM},
		{"Shares", s.shares},
		{"Memory", s.memory},
		{"DiskSharedByVMs", s.diskSharedByVMs},
		{"ManyDisks", s.manyDisks},
		{"LifeOfAVM", s.life},
		{"RebootIsCleanWithoutConsole", s.rebootWithoutConsole},
		{"PanicEndsTheVM", s.panics},
		{"StopBeforeStart", s.stopBeforeStart},
		{"StopWhileStarting", s.stopWhileStarting},
		{"StopWhileBooting", s.stopWhileBooting},
		{"StopRunning", s.stopRunning},
		{"StopWithoutTime", s.stopWithoutTime},
		{"StartWithoutTime", s.startWithoutTime},
		{"CloseRunning", s.closeRunning},
		{"ConcurrentVMs", s.concurrent},
		{"NothingStays", s.nothingStays},
	} {
		t.Run(test.name, test.run)
	}
}

// RunManyDisks is the part of the suite about the number of disks.
func RunManyDisks(t *testing.T, o Options) { suite{o.Guest, o}.manyDisks(t) }

// RunOneVM is the part of the suite that a single boot is enough for: what the
// guest sees of its machine.
func RunOneVM(t *testing.T, o Options) { suite{o.Guest, o}.oneVM(t) }

type suite struct {
	Guest
	o Options
}

func (s suite) boot(t testing.TB, mod func(*hypervisor.Config)) *Machine {
	t.Helper()
	return s.Boot(t, s.o.Driver(t), mod)
}

func (s suite) new(t testing.TB) *Machine {
	t.Helper()
	return s.New(t, s.o.Driver(t), nil)
}

func (s suite) available(t *testing.T) {
	d := s.o.Driver(t)
	if err := d.Available(t.Context()); err != nil {
		t.Fatalf("Available: %v", err)
	}
	if c := d.Capabilities(); c.MaxDisks < 2 {
		t.Errorf("MaxDisks = %d: a rootfs and an ephemeral disk do not fit", c.MaxDisks)
	}
	if d.Name() == "" || strings.ContainsAny(d.Name(), " \t\n") {
		t.Errorf("Name = %q", d.Name())
	}
}

// oneVM is what can be seen in one VM while it runs.
func (s suite) oneVM(t *testing.T) {
	set := newDiskSet(t)
	m := s.New(t, s.o.Driver(t), func(c *hypervisor.Config) {
		c.CPUs = 2
		c.CommandLine += " bake.test=one,two bake.quote=\"a b\""
		c.Disks = set.disks
	})
	l, err := m.ListenVsock(hostEchoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m.StartAndWait(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"GuestSeesItsMachine", func(t *testing.T) { s.guestSeesItsMachine(t, m) }},
		{"Disks", func(t *testing.T) { set.check(t, m) }},
		{"VsockFromHost", m.vsockFromHost},
		{"VsockFromGuest", func(t *testing.T) { m.vsockFromGuest(t, l) }},
		{"VsockRefused", m.vsockRefused},
		{"ConsoleToItsEnd", m.consoleToItsEnd},
	} {
		t.Run(test.name, test.run)
	}
	set.checkFiles(t)
}

func (s suite) guestSeesItsMachine(t *testing.T, m *Machine) {
	r := m.MustAsk(t, testguest.Request{Op: testguest.OpInfo})
	if r.CPUs != 2 {
		t.Errorf("the guest has %d CPUs, want 2", r.CPUs)
	}
	// The kernel keeps some for itself.
	if r.MemoryMiB > s.MemoryMiB || r.MemoryMiB < s.MemoryMiB*8/10-32 {
		t.Errorf("the guest has %d MiB of memory, want nearly %d", r.MemoryMiB, s.MemoryMiB)
	}
	for _, want := range []string{"bake.test=one,two", `bake.quote="a b"`} {
		if !strings.Contains(" "+r.CommandLine+" ", " "+want+" ") {
			t.Errorf("the command line %q does not have %q", r.CommandLine, want)
		}
	}
}

func (m *Machine) consoleToItsEnd(t *testing.T) {
	m.MustAsk(t, testguest.Request{Op: testguest.OpPrint, Text: "a line of the guest\n"})
	m.Console.WaitFor(t, "a line of the guest")
	// All that was written is there when Wait returns.
	m.MustAsk(t, testguest.Request{Op: testguest.OpPrint, Text: strings.Repeat("x", 4000) + "the last\n"})
	if exit := m.End(t, testguest.OpPowerOff); !exit.Clean {
		t.Errorf("exit %+v, want clean", exit)
	}
	if !strings.Contains(m.Console.String(), "the last") {
		t.Error("the end of the console is not there after Wait")
	}
	if m.Console.broken {
		t.Error("the driver wrote to the console twice at a time")
	}
}

func (s suite) concurrent(t *testing.T) {
	d := s.o.Driver(t)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			text := strings.Repeat(string(rune('a'+i)), 100)
			m, err := s.TryNew(t, d, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if err := m.Start(t.Context()); err != nil {
				t.Error(err)
				return
			}
			if err := m.WaitReady(); err != nil {
				t.Error(err)
				return
			}
			if got, err := m.echo(text); got != text || err != nil {
				t.Errorf("VM %d answers %q, %v, want %q", i, got, err, text)
			}
		})
	}
	wg.Wait()
}

// nothingStays counts what a process has before and after VMs.
func (s suite) nothingStays(t *testing.T) {
	ended := func(t *testing.T) {
		m := s.boot(t, nil)
		if _, err := m.echo("hello"); err != nil {
			t.Error(err)
		}
		m.End(t, testguest.OpPowerOff)
	}
	t.Run("first", s.stopWhileBooting) // what a process makes once
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"ended", ended},
		{"killed", s.killed},
		{"closed while booting", s.closeWhileBooting},
		{"stopped while booting", s.stopWhileBooting},
		{"never started", func(t *testing.T) { s.new(t) }},
		{"refused", s.refusesBadConfigs},
	} {
		t.Run(test.name, test.run)
		// What the test itself started may take a moment to end.
		for deadline := time.Now().Add(limit); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%s: %d goroutines are left of it", test.name, n-goroutines)
		}
		if now := openFiles(t); len(now) > len(files) {
			t.Errorf("%s: files stay open: %v, before %v", test.name, now, files)
		}
	}
}

// killed kills a VMM and looks at what the host sees of that.
func (s suite) killed(t *testing.T) {
	m := s.boot(t, nil)
	conn, err := m.Dial(testguest.PortEcho)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s.o.Kill(t, m.VM)
	exit := m.WaitEnd(t)
	if exit.Clean || !strings.Contains(exit.Reason, "killed") {
		t.Errorf("exit %+v, want not clean, with a reason that says killed", exit)
	}
	if strings.Contains(exit.Reason, "\n") {
		t.Errorf("the reason has more than one line: %q", exit.Reason)
	}
	// Connections do not hang.
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a connection to a VM that is gone reads %d bytes", n)
	}
	if conn, err := m.Dial(testguest.PortEcho); err == nil {
		t.Error("a VM that is gone takes connections")
		conn.Close()
	}
	if err := m.Stop(context.Background()); err != nil {
		t.Errorf("Stop of a VM that is gone: %v", err)
	}
}
