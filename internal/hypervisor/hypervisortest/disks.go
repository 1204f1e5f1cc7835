package hypervisortest

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/hypervisortest/testguest"
)

func tempFile(t testing.TB, name string, b []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	return f
}

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// disks has every kind of disk in one VM.
func (s suite) disks(t *testing.T) {
	big := randomBytes(1, 1<<20)
	file := tempFile(t, "app", big)
	whole, err := os.Open(file.Name()) // O_RDONLY, as an app opens itself
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { whole.Close() })
	scratch := tempFile(t, "scratch", randomBytes(2, 256<<10))
	literal := randomBytes(3, 4096)
	disks := []hypervisor.Disk{
		{Resource: hypervisor.Resource{Name: "whole", File: whole, Size: -1}, ReadOnly: true},
		{Resource: hypervisor.Resource{Name: "window", File: whole, Offset: 64 << 10, Size: 128 << 10}, ReadOnly: true},
		{Resource: hypervisor.Resource{Name: "scratch", File: scratch, Size: -1}},
		{Resource: hypervisor.Resource{Name: "bytes", Bytes: literal}, ReadOnly: true},
		{Resource: hypervisor.Resource{Name: "end", File: file, Offset: 1<<20 - 512, Size: -1}, ReadOnly: true},
		{Resource: hypervisor.Resource{Name: "part", File: scratch, Offset: 128 << 10, Size: 64 << 10}},
	}
	contents := [][]byte{big, big[64<<10 : 192<<10], randomBytes(2, 256<<10), literal, big[1<<20-512:], randomBytes(2, 256<<10)[128<<10 : 192<<10]}
	m := s.boot(t, func(c *hypervisor.Config) { c.Disks = disks })
	if r := m.MustAsk(t, testguest.Request{Op: testguest.OpInfo}); r.Disks != len(disks) {
		t.Fatalf("the guest has %d disks, want %d", r.Disks, len(disks))
	}
	for i, disk := range disks {
		name := disk.Resource.Name
		r := m.MustAsk(t, testguest.Request{Op: testguest.OpDisk, Disk: i})
		if r.Size != int64(len(contents[i])) || r.ReadOnly != disk.ReadOnly {
			t.Errorf("disk %d (%s): %d bytes, read-only: %v; want %d, %v", i, name, r.Size, r.ReadOnly, len(contents[i]), disk.ReadOnly)
			continue
		}
		if r := m.MustAsk(t, testguest.Request{Op: testguest.OpRead, Disk: i, Length: r.Size}); !bytes.Equal(r.Data, contents[i]) {
			t.Errorf("disk %d (%s) has other contents than its file", i, name)
		}
		if _, err := m.Ask(testguest.Request{Op: testguest.OpRead, Disk: i, Offset: r.Size, Length: 512}); err == nil {
			t.Errorf("disk %d (%s): the guest reads behind its end", i, name)
		}
		data := randomBytes(byte(10+i), 512)
		_, err := m.Ask(testguest.Request{Op: testguest.OpWrite, Disk: i, Offset: r.Size - 512, Data: data})
		if (err != nil) != disk.ReadOnly {
			t.Errorf("disk %d (%s): write: %v, read-only: %v", i, name, err, disk.ReadOnly)
		}
		if disk.ReadOnly {
			continue
		}
		back := make([]byte, 512)
		if _, err := scratch.ReadAt(back, disk.Resource.Offset+r.Size-512); err != nil || !bytes.Equal(back, data) {
			t.Errorf("disk %d (%s): what the guest wrote is not in the file (%v)", i, name, err)
		}
	}
	m.End(t, testguest.OpPowerOff)
	// Nothing but what was written changed.
	if now, err := os.ReadFile(file.Name()); err != nil || !bytes.Equal(now, big) {
		t.Errorf("the file of read-only disks changed (%v)", err)
	}
	want := randomBytes(2, 256<<10)
	copy(want[256<<10-512:], randomBytes(12, 512))
	copy(want[192<<10-512:], randomBytes(15, 512))
	if now, err := os.ReadFile(scratch.Name()); err != nil || !bytes.Equal(now, want) {
		t.Errorf("the file of writable disks has other changes than the guest made (%v)", err)
	}
}

// diskSharedByVMs has one file, once open and opened twice, in VMs at a time.
func (s suite) diskSharedByVMs(t *testing.T) {
	data := randomBytes(4, 64<<10)
	file := tempFile(t, "app", data)
	other, err := os.Open(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	var machines []*Machine
	for _, f := range []*os.File{file, file, other} {
		machines = append(machines, s.boot(t, func(c *hypervisor.Config) {
			c.Disks = []hypervisor.Disk{{Resource: hypervisor.Resource{Name: "rootfs", File: f, Size: -1}, ReadOnly: true}}
		}))
	}
	for i, m := range machines {
		r := m.MustAsk(t, testguest.Request{Op: testguest.OpRead, Length: int64(len(data))})
		if !bytes.Equal(r.Data, data) {
			t.Errorf("VM %d reads something else", i)
		}
	}
}
