//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest"
	"bake/internal/service/files/tree"
	"bake/internal/service/files/virtiofs"
)

// testKernel opens the kernel that the tests boot: all built in, for this
// machine's architecture.
func testKernel(t testing.TB) hypervisor.Resource {
	t.Helper()
	return openKernel(t, "BAKE_TEST_KERNEL")
}

func openKernel(t testing.TB, variable string) hypervisor.Resource {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("%s names no kernel to boot; `make test` sets it", variable)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return hypervisor.Resource{Name: "kernel", File: f, Size: -1}
}

func testGuest(t testing.TB) hypervisortest.Guest {
	t.Helper()
	return hypervisortest.Guest{
		Arch:      runtime.GOARCH,
		Kernel:    testKernel(t),
		Initrd:    hypervisor.Resource{Name: "initrd", Bytes: hypervisortest.Initrd(t, runtime.GOARCH)},
		MemoryMiB: 192,
	}
}

func kill(t testing.TB, vm hypervisor.VM) {
	t.Helper()
	if err := syscall.Kill(vm.(*VM).PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	hypervisortest.Run(t, options(t, ""))
}

// The machine of amd64 guests where microvm cannot be had: its devices are on
// PCI.
func TestQ35(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("q35 is a machine for amd64 guests")
	}
	o := options(t, machineQ35)
	hypervisortest.RunOneVM(t, o)
	t.Run("ManyDisks", func(t *testing.T) { hypervisortest.RunManyDisks(t, o) })
	hypervisortest.RunShares(t, o)
	t.Run("Memory", func(t *testing.T) { hypervisortest.RunMemory(t, o) })
}

func options(t testing.TB, machine string) hypervisortest.Options {
	cache := filepath.Join(t.TempDir(), "cache")
	return hypervisortest.Options{
		Driver: func(t testing.TB) hypervisor.Driver {
			return &Driver{CacheDir: cache, Machine: machine, Warnf: t.Logf}
		},
		Guest:  testGuest(t),
		Kill:   kill,
		Share:  serveShare,
		Memory: hostMemory,
	}
}

// hostMemory is what the file that is the guest's memory takes (stat(2),
// st_blocks).
func hostMemory(t testing.TB, vm hypervisor.VM) int64 {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", vm.(*VM).PID())
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		path := filepath.Join(dir, fd.Name())
		if name, err := os.Readlink(path); err != nil || !strings.HasPrefix(name, "/memfd:memory-backend-memfd") {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	t.Fatalf("%s has no memfd that is the guest's memory", dir)
	return 0
}

// serveShare serves a directory until the test ends.
func serveShare(t testing.TB, dir string) *os.File {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	shared, err := tree.Open(root, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- virtiofs.Serve(ctx, os.NewFile(uintptr(pair[0]), "server"), shared, virtiofs.Options{Logf: t.Logf})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		shared.Close()
	})
	return os.NewFile(uintptr(pair[1]), "QEMU")
}

// A guest of another architecture: arm64, all devices on PCI.
func TestArm64(t *testing.T) {
	guest := hypervisortest.Guest{
		Arch:      "arm64",
		Kernel:    openKernel(t, "BAKE_TEST_KERNEL_ARM64"),
		Initrd:    hypervisor.Resource{Name: "initrd", Bytes: hypervisortest.Initrd(t, "arm64")},
		MemoryMiB: 256,
	}
	hypervisortest.RunOneVM(t, hypervisortest.Options{
		Driver: func(testing.TB) hypervisor.Driver { return &Driver{Arch: "arm64"} },
		Guest:  guest,
	})
}
