package hypervisortest

import (
	"testing"
	"time"

	"bake/internal/hypervisor/hypervisortest/testguest"
)

// RunMemory boots a VM whose guest takes memory and frees it, if the driver
// says that the host gets it back.
func RunMemory(t *testing.T, o Options) { suite{o.Guest, o}.memory(t) }

func (s suite) memory(t *testing.T) {
	if !s.o.Driver(t).Capabilities().ReturnsMemory {
		return
	}
	if s.o.Memory == nil {
		t.Fatal("the driver returns memory, and the test does not know how much a VM has")
	}
	m := s.boot(t, nil)
	const amount = 96 << 20
	const returned = amount / 2 // of it at least; not all is in whole pieces
	hold := func(bytes int64) int64 {
		m.MustAsk(t, testguest.Request{Op: testguest.OpHold, Length: bytes})
		return s.o.Memory(t, m.VM)
	}
	before := s.o.Memory(t, m.VM)
	full := hold(amount)
	if full < amount {
		t.Fatalf("the VM has %d bytes of the host while its guest holds %d", full, amount)
	}
	// The guest tells after some seconds.
	now := hold(0)
	for deadline := time.Now().Add(limit); now > full-returned; now = s.o.Memory(t, m.VM) {
		if time.Now().After(deadline) {
			t.Fatalf("the VM had %d bytes of the host, %d while its guest held %d, and keeps %d", before, full, amount, now)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("memory of the host: %d MiB, %d MiB while the guest held %d, %d MiB after", before>>20, full>>20, amount>>20, now>>20)
	// What went back can be had again.
	if again := hold(amount); again < amount {
		t.Errorf("the VM has %d bytes of the host while its guest holds %d again", again, amount)
	}
	if back, err := m.echo("still there"); err != nil || back != "still there" {
		t.Errorf("after that: %q, %v", back, err)
	}
	m.End(t, testguest.OpPowerOff)
}
