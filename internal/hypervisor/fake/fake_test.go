package fake_test

import (
	"context"
	"runtime"
	"testing"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/fake"
	"bake/internal/hypervisor/hypervisortest"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

func TestConformance(t *testing.T) {
	hypervisortest.Run(t, hypervisortest.Options{
		Driver: func(t testing.TB) hypervisor.Driver {
			return &fake.Driver{Guest: func(ctx context.Context, m *fake.Machine) {
				if err := testguest.Serve(m); err != nil && ctx.Err() == nil {
					t.Errorf("the guest: %v", err)
				}
			}}
		},
		Guest: hypervisortest.Guest{Arch: runtime.GOARCH, MemoryMiB: 256},
		Kill:  func(_ testing.TB, vm hypervisor.VM) { vm.(*fake.VM).Kill() },
	})
}
