//go:build linux

package qemu

import (
	"slices"
	"testing"

	"bake/internal/hypervisor"
)

func TestEmulatedCPUs(t *testing.T) {
	for _, c := range []struct {
		accel          string
		cpus, emulated int
		want           string
	}{
		{accelTCG, 8, 0, "8"},
		{accelTCG, 8, 1, "1"},
		{accelKVM, 8, 1, "8"},
	} {
		cfg := hypervisor.Config{CPUs: c.cpus, EmulatedCPUs: c.emulated, MemoryMiB: 64}
		m, err := newMachine(&program{command: []string{"qemu"}}, machineQ35, c.accel, nil, cfg)
		if err != nil {
			t.Fatal(err)
		}
		args := m.args()
		if i := slices.Index(args, "-smp"); i < 0 || args[i+1] != c.want {
			t.Errorf("%s with %d CPUs, %d emulated: %q, want -smp %s", c.accel, c.cpus, c.emulated, args, c.want)
		}
	}
}
