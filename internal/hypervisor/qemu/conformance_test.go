//go:build linux

package qemu

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest"
)

// testKernel opens the kernel that the tests boot: all built in, for this
// machine's architecture.
func testKernel(t testing.TB) hypervisor.Resource {
	t.Helper()
	path := os.Getenv("BAKE_TEST_KERNEL")
	if path == "" {
		t.Skip("BAKE_TEST_KERNEL names no kernel to boot; `make test` sets it")
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
	guest := testGuest(t)
	cache := filepath.Join(t.TempDir(), "cache")
	for _, machine := range machines(runtime.GOARCH) {
		t.Run(machine, func(t *testing.T) {
			hypervisortest.Run(t, hypervisortest.Options{
				Driver: func(t testing.TB) hypervisor.Driver {
					return &Driver{CacheDir: cache, Machine: machine, Warnf: t.Logf}
				},
				Guest: guest,
				Kill:  kill,
			})
		})
	}
}

func machines(arch string) []string {
	if arch == "arm64" {
		return []string{""}
	}
	return []string{machineMicroVM, machineQ35}
}
