package hypervisortest

import (
	"bytes"
	"fmt"
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

// A diskSet is every kind of disk.
type diskSet struct {
	disks    []hypervisor.Disk
	contents [][]byte
	app      *os.File // behind read-only disks
	scratch  *os.File // behind writable disks
	written  []byte   // what scratch should hold
}

func newDiskSet(t testing.TB) *diskSet {
	t.Helper()
	big, scratch, literal := randomBytes(1, 1<<20), randomBytes(2, 256<<10), randomBytes(3, 4096)
	s := &diskSet{app: tempFile(t, "app", big), scratch: tempFile(t, "scratch", scratch), written: bytes.Clone(scratch)}
	own, err := os.Open(s.app.Name()) // O_RDONLY, as an app opens itself
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	for _, d := range []struct {
		disk     hypervisor.Disk
		contents []byte
	}{
		{hypervisor.Disk{Resource: hypervisor.Resource{Name: "whole", File: own, Size: -1}, ReadOnly: true}, big},
		{hypervisor.Disk{Resource: hypervisor.Resource{Name: "window", File: own, Offset: 64 << 10, Size: 128 << 10}, ReadOnly: true}, big[64<<10 : 192<<10]},
		{hypervisor.Disk{Resource: hypervisor.Resource{Name: "scratch", File: s.scratch, Size: 128 << 10}}, scratch[:128<<10]},
		{hypervisor.Disk{Resource: hypervisor.Resource{Name: "bytes", Bytes: literal}, ReadOnly: true}, literal},
		// This file is open for writing too, which must do no harm.
		{hypervisor.Disk{Resource: hypervisor.Resource{Name: "end", File: s.app, Offset: 1<<20 - 512, Size: -1}, ReadOnly: true}, big[1<<20-512:]},
		{hypervisor.Disk{Resource: hypervisor.Resource{Name: "part", File: s.scratch, Offset: 128 << 10, Size: 64 << 10}}, scratch[128<<10 : 192<<10]},
	} {
		s.disks = append(s.disks, d.disk)
		s.contents = append(s.contents, d.contents)
	}
	return s
}

// check reads and writes all disks in the guest.
func (s *diskSet) check(t *testing.T, m *Machine) {
	if r := m.MustAsk(t, testguest.Request{Op: testguest.OpInfo}); r.Disks != len(s.disks) {
		t.Fatalf("the guest has %d disks, want %d", r.Disks, len(s.disks))
	}
	for i, disk := range s.disks {
		name, want := disk.Resource.Name, s.contents[i]
		r := m.MustAsk(t, testguest.Request{Op: testguest.OpDisk, Disk: i})
		if r.Size != int64(len(want)) || r.ReadOnly != disk.ReadOnly {
			t.Errorf("disk %d (%s): %d bytes, read-only: %v; want %d, %v", i, name, r.Size, r.ReadOnly, len(want), disk.ReadOnly)
			continue
		}
		if r := m.MustAsk(t, testguest.Request{Op: testguest.OpRead, Disk: i, Length: r.Size}); !bytes.Equal(r.Data, want) {
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
		if !disk.ReadOnly {
			copy(s.written[disk.Resource.Offset+r.Size-512:], data)
		}
	}
}

// checkFiles finds in the files what the guest wrote and nothing else.
func (s *diskSet) checkFiles(t *testing.T) {
	if now, err := os.ReadFile(s.app.Name()); err != nil || !bytes.Equal(now, s.contents[0]) {
		t.Errorf("the file of read-only disks changed (%v)", err)
	}
	if now, err := os.ReadFile(s.scratch.Name()); err != nil || !bytes.Equal(now, s.written) {
		t.Errorf("the file of writable disks has other changes than the guest made (%v)", err)
	}
}

// diskSharedByVMs has one file in VMs at a time, as processes of one app do.
func (s suite) diskSharedByVMs(t *testing.T) {
	data := randomBytes(4, 64<<10)
	file := tempFile(t, "app", data)
	other, err := os.Open(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	var machines []*Machine
	for _, f := range []*os.File{file, other} {
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

// manyDisks has as many disks as the driver takes: each is the one that it
// should be, and what the guest syncs to the durable ones is in their files.
func (s suite) manyDisks(t *testing.T) {
	d := s.o.Driver(t)
	var disks []hypervisor.Disk
	var want [][]byte
	for i := range d.Capabilities().MaxDisks {
		want = append(want, randomBytes(byte(i), 4096*(i+1)))
		disks = append(disks, hypervisor.Disk{
			Resource: hypervisor.Resource{Name: fmt.Sprintf("volume %d", i), File: tempFile(t, "volume", want[i]), Size: -1},
			ReadOnly: i%3 == 0,
			Durable:  i%3 == 1,
		})
	}
	m := s.Boot(t, d, func(c *hypervisor.Config) { c.Disks = disks })
	if r := m.MustAsk(t, testguest.Request{Op: testguest.OpInfo}); r.Disks != len(disks) {
		t.Errorf("the guest has %d disks, want %d", r.Disks, len(disks))
	}
	for i, disk := range disks {
		r := m.MustAsk(t, testguest.Request{Op: testguest.OpRead, Disk: i, Length: int64(len(want[i]))})
		if !bytes.Equal(r.Data, want[i]) {
			t.Errorf("disk %d is not the one that it should be", i)
		}
		if !disk.ReadOnly {
			data := randomBytes(byte(100+i), 512)
			m.MustAsk(t, testguest.Request{Op: testguest.OpWrite, Disk: i, Offset: 1024, Data: data})
			copy(want[i][1024:], data)
		}
	}
	// The driver has all that was synced even if it has no time to end well.
	s.o.Kill(t, m.VM)
	m.WaitEnd(t)
	for i, disk := range disks {
		now, err := os.ReadFile(disk.Resource.File.Name())
		if err != nil {
			t.Fatal(err)
		}
		if (disk.Durable || disk.ReadOnly) && !bytes.Equal(now, want[i]) {
			t.Errorf("the file of disk %d (%+v) has other contents than the guest synced", i, disk)
		}
	}
}
