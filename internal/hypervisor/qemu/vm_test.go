//go:build linux

package qemu

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/ext4"
	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest"
	"bake/internal/hypervisor/hypervisortest/testguest"
	"bake/internal/platform"
)

func TestMain(m *testing.M) {
	if os.Getenv("QEMU_TEST_ROLE") == "orphan" {
		if err := orphan(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// orphan starts a VM that stays, says QEMU's process number, and waits to be
// killed.
func orphan() error {
	kernel, err := os.Open(os.Getenv("BAKE_TEST_KERNEL"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		return err
	}
	vm, err := (&Driver{}).New(context.Background(), hypervisor.Config{
		Arch: runtime.GOARCH, Kernel: hypervisor.Resource{Name: "kernel", File: kernel, Size: -1},
		CommandLine: "panic=0", CPUs: 1, MemoryMiB: 128, Dir: dir,
	})
	if err != nil {
		return err
	}
	if err := vm.Start(context.Background()); err != nil {
		return err
	}
	fmt.Println(vm.(*VM).PID(), dir)
	_, err = vm.Wait()
	return err
}

func TestQEMUDiesWithThisProcess(t *testing.T) {
	testKernel(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "QEMU_TEST_ROLE=orphan")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the process says %q, %v", line, err)
	}
	number, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
	defer os.RemoveAll(dir)
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("the process says %q", line)
	}
	child, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fds := []unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 30_000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			unix.PidfdSendSignal(child, unix.SIGKILL, nil, 0)
			t.Errorf("QEMU lived on: poll = %d, %v", n, err)
		}
		return
	}
}

// A guest mounts and fills a disk as bake's ephemeral disk is made.
func TestGuestFillsEphemeralDisk(t *testing.T) {
	amount := int64(128 << 20)
	if s := os.Getenv("BAKE_TEST_FILL_MIB"); s != "" {
		mib, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		amount = mib << 20
	}
	size := 2 * amount
	file, err := platform.EphemeralFile(t.TempDir(), size)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := ext4.Format(file, size, ext4.Options{}); err != nil {
		t.Fatal(err)
	}
	m := testGuest(t).Boot(t, &Driver{}, func(c *hypervisor.Config) {
		c.Disks = []hypervisor.Disk{{Resource: hypervisor.Resource{Name: "ephemeral", File: file, Size: -1}}}
	})
	m.MustAsk(t, testguest.Request{Op: testguest.OpFill, Length: amount})
	if exit := m.End(t, testguest.OpPowerOff); !exit.Clean {
		t.Errorf("exit %+v, want clean", exit)
	}
	cmd := exec.Command("e2fsck", "-fn", platform.ChildPath(3))
	cmd.ExtraFiles = []*os.File{file}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("e2fsck after the guest: %v\n%s", err, out)
	}
}

// The least memory that New takes is enough for a small guest.
func TestLeastMemoryBoots(t *testing.T) {
	guest, d := testGuest(t), &Driver{}
	for guest.MemoryMiB = 1; ; guest.MemoryMiB++ {
		m, err := guest.TryNew(t, d, nil)
		if err != nil {
			if guest.MemoryMiB > 512 {
				t.Fatal(err)
			}
			continue
		}
		t.Logf("%d MiB", guest.MemoryMiB)
		m.StartAndWait(t)
		m.End(t, testguest.OpPowerOff)
		return
	}
}

// QEMU's own words reach the user when it does not start.
func TestQEMUFailsToStart(t *testing.T) {
	q := newFakeQEMU(t, `echo "qemu-system-fake: cannot set up guest memory 'memory': Cannot allocate memory" >&2; exit 1`)
	g := hypervisortest.Guest{Arch: runtime.GOARCH, Kernel: testConfig(runtime.GOARCH).Kernel, MemoryMiB: 256}
	m := g.New(t, &Driver{Command: []string{q.path}, Accel: accelTCG}, nil)
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit := m.WaitEnd(t)
	want := "qemu-system-fake ended with exit status 1: cannot set up guest memory 'memory': Cannot allocate memory"
	if exit.Clean || exit.Reason != want {
		t.Errorf("exit %+v, want %q", exit, want)
	}
}

func TestQEMUIsGone(t *testing.T) {
	q := newFakeQEMU(t, "exit 1")
	g := hypervisortest.Guest{Arch: runtime.GOARCH, Kernel: testConfig(runtime.GOARCH).Kernel, MemoryMiB: 256}
	m := g.New(t, &Driver{Command: []string{q.path}, Accel: accelTCG}, nil)
	if err := os.Remove(q.path); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "run qemu-system-fake") {
		t.Errorf("Start: %v", err)
	}
	if exit := m.WaitEnd(t); exit.Clean || !strings.Contains(exit.Reason, "failed to start") {
		t.Errorf("exit %+v", exit)
	}
	if left, err := os.ReadDir(m.Dir); err != nil || len(left) != 1 { // the suite's own listener
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

// The console goes through this process even if it is a file.
func TestConsoleThatIsAFile(t *testing.T) {
	q := newFakeQEMU(t, "echo on the console; readlink /proc/self/fd/1 >&2; exit 1")
	f, err := os.Create(t.TempDir() + "/console")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := hypervisortest.Guest{Arch: runtime.GOARCH, Kernel: testConfig(runtime.GOARCH).Kernel, MemoryMiB: 256}
	m := g.New(t, &Driver{Command: []string{q.path}, Accel: accelTCG}, func(c *hypervisor.Config) { c.Console = f })
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := m.WaitEnd(t); !strings.Contains(exit.Reason, "pipe:") {
		t.Errorf("QEMU's standard output is %q, want a pipe", exit.Reason)
	}
	if b, err := os.ReadFile(f.Name()); string(b) != "on the console\n" || err != nil {
		t.Errorf("the console has %q, %v", b, err)
	}
}

// Somebody else's SIGTERM is not a power-off, though QEMU's status is 0.
func TestQEMUToldToEnd(t *testing.T) {
	m := testGuest(t).Boot(t, &Driver{}, nil)
	if err := syscall.Kill(m.VM.(*VM).PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit := m.WaitEnd(t); exit.Clean || !strings.Contains(exit.Reason, "told to end") {
		t.Errorf("exit %+v, want not clean", exit)
	}
}
