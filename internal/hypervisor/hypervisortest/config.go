package hypervisortest

import (
	"strings"
	"testing"

	"bake/internal/hypervisor"
)

func (s suite) describe(t *testing.T) {
	file := tempFile(t, "disk", make([]byte, 8192))
	d := s.o.Driver(t)
	desc, err := d.Describe(t.Context(), hypervisor.Config{
		Arch: s.Arch, Kernel: s.Kernel, Initrd: s.Initrd, CommandLine: "bake.test=1",
		CPUs: 3, MemoryMiB: s.MemoryMiB, Dir: t.TempDir(),
		Disks: []hypervisor.Disk{{Resource: hypervisor.Resource{Name: "rootfs", File: file, Offset: 4096, Size: -1}, ReadOnly: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: machine %s, accelerator %s", desc.Hypervisor, desc.Machine, desc.Accelerator)
	if desc.Hypervisor != d.Name() || desc.Arch != s.Arch || desc.CPUs != 3 || desc.MemoryMiB != s.MemoryMiB {
		t.Errorf("Describe = %+v", desc)
	}
	if !strings.Contains(desc.CommandLine, "bake.test=1") {
		t.Errorf("the command line is %q", desc.CommandLine)
	}
	want := hypervisor.DescribedDisk{Name: "rootfs", Path: file.Name(), Offset: 4096, Size: 4096, ReadOnly: true}
	if len(desc.Disks) != 1 || desc.Disks[0] != want {
		t.Errorf("disks %+v, want %+v", desc.Disks, want)
	}
}

func (s suite) refusesBadConfigs(t *testing.T) {
	small := tempFile(t, "small", make([]byte, 4096))
	disk := func(offset, size int64) func(*hypervisor.Config) {
		return func(c *hypervisor.Config) {
			c.Disks = []hypervisor.Disk{{Resource: hypervisor.Resource{Name: "rootfs", File: small, Offset: offset, Size: size}, ReadOnly: true}}
		}
	}
	s.refusesBadShares(t)
	for _, tc := range []struct {
		name string
		mod  func(*hypervisor.Config)
		want string
	}{
		{"no CPUs", func(c *hypervisor.Config) { c.CPUs = 0 }, "--cpus"},
		{"negative CPUs", func(c *hypervisor.Config) { c.CPUs = -1 }, "--cpus"},
		{"no memory", func(c *hypervisor.Config) { c.MemoryMiB = 0 }, "--memory"},
		{"negative memory", func(c *hypervisor.Config) { c.MemoryMiB = -5 }, "--memory"},
		{"disk past the end", disk(0, 8192), "rootfs"},
		{"disk behind the end", disk(8192, -1), "rootfs"},
		{"disk at a negative offset", disk(-512, 512), "rootfs"},
		{"disk that overflows", disk(1<<62, 1<<62), "rootfs"},
		{"writable disk of bytes", func(c *hypervisor.Config) {
			c.Disks = []hypervisor.Disk{{Resource: hypervisor.Resource{Name: "manifest", Bytes: make([]byte, 512)}}}
		}, "read-only"},
		{"too many disks", func(c *hypervisor.Config) {
			c.Disks = make([]hypervisor.Disk, 1000)
			for i := range c.Disks {
				c.Disks[i] = hypervisor.Disk{Resource: hypervisor.Resource{Name: "rootfs", File: small, Size: -1}, ReadOnly: true}
			}
		}, "disks"},
	} {
		m, err := s.TryNew(t, s.o.Driver(t), tc.mod)
		if err == nil {
			t.Errorf("%s: no error", tc.name)
			m.Close()
			continue
		}
		if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is %q, want one line with %q", tc.name, err, tc.want)
		}
	}
}
