//go:build linux

package qemu

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"bake/internal/hypervisor"
)

// elf is a small vmlinux: one segment of memory and one note.
func elf(mod func(file, load, note []byte)) []byte {
	b := make([]byte, 512)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)  // executable
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], 2)
	load, note := b[64:][:phdrSize], b[64+phdrSize:][:phdrSize]
	le.PutUint32(load, 1)
	le.PutUint64(load[24:], 16<<20) // physical address
	le.PutUint64(load[40:], 20<<20) // size in memory
	le.PutUint32(note, 4)
	le.PutUint64(note[8:], 256)
	le.PutUint64(note[32:], 20+20)
	notes := b[256:]
	le.PutUint32(notes, 4) // another note first, with a name to pad
	le.PutUint32(notes[4:], 1)
	copy(notes[12:], "GNU\x00\x01")
	notes = notes[20:]
	le.PutUint32(notes, 4)
	le.PutUint32(notes[4:], 4)
	le.PutUint32(notes[8:], 18)
	copy(notes[12:], "Xen\x00")
	if mod != nil {
		mod(b, load, note)
	}
	return b
}

func image(mod func([]byte)) []byte {
	b := make([]byte, 128)
	copy(b[56:], "ARM\x64")
	le.PutUint64(b[16:], 12<<20)
	if mod != nil {
		mod(b)
	}
	return b
}

func TestCheckKernel(t *testing.T) {
	bz := make([]byte, 1024)
	copy(bz[0x202:], "HdrS")
	for _, tc := range []struct {
		name, arch string
		kernel     []byte
		size       int64
		want       string
	}{
		{"PVH", "amd64", elf(nil), 20 << 20, ""},
		{"Image", "arm64", image(nil), 12 << 20, ""},
		{"empty", "amd64", nil, 0, "no ELF"},
		{"empty", "arm64", nil, 0, "no arm64 Image"},
		{"bzImage", "amd64", bz, 0, "bake kernel import"},
		{"gzip", "arm64", append([]byte{0x1f, 0x8b}, make([]byte, 100)...), 0, "bake kernel import"},
		{"huge Image", "arm64", image(func(b []byte) { b[23] = 0xff }), 0, "broken"},
		{"Image for amd64", "amd64", image(nil), 0, "no ELF"},
		{"ELF for arm64", "amd64", elf(func(f, _, _ []byte) { le.PutUint16(f[18:], 183) }), 0, "no ELF"},
		{"ELF32", "amd64", elf(func(f, _, _ []byte) { f[4] = 1 }), 0, "no ELF"},
		{"no note", "amd64", elf(func(f, _, n []byte) { le.PutUint32(n, 0) }), 0, "CONFIG_PVH"},
		{"another note", "amd64", elf(func(f, _, n []byte) { f[256+20+8] = 17 }), 0, "CONFIG_PVH"},
		{"nothing to load", "amd64", elf(func(_, l, _ []byte) { le.PutUint32(l, 0) }), 0, "loads nothing"},
		{"no headers", "amd64", elf(func(f, _, _ []byte) { le.PutUint16(f[56:], 0) }), 0, "broken"},
		{"headers behind the end", "amd64", elf(func(f, _, _ []byte) { le.PutUint64(f[32:], 1<<40) }), 0, "unexpected EOF"},
		{"headers at 2^63", "amd64", elf(func(f, _, _ []byte) { le.PutUint64(f[32:], 1<<63) }), 0, "broken"},
		{"notes behind the end", "amd64", elf(func(_, _, n []byte) { le.PutUint64(n[8:], 1<<40) }), 0, "unexpected EOF"},
		{"notes at 2^63", "amd64", elf(func(_, _, n []byte) { le.PutUint64(n[8:], 1<<63) }), 0, "broken"},
		{"huge notes", "amd64", elf(func(_, _, n []byte) { le.PutUint64(n[32:], 1<<40) }), 0, "broken"},
		{"huge note name", "amd64", elf(func(f, _, n []byte) { le.PutUint32(f[256:], 0xffffffff) }), 0, "CONFIG_PVH"},
		{"memory overflows", "amd64", elf(func(_, l, _ []byte) { le.PutUint64(l[40:], 1<<64-1) }), 0, "broken"},
	} {
		size, err := checkKernel(tc.arch, hypervisor.Resource{Name: "kernel", Bytes: tc.kernel})
		switch {
		case tc.want == "" && (err != nil || size != tc.size):
			t.Errorf("%s: %d, %v; want %d", tc.name, size, err, tc.size)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}

func FuzzCheckPVH(f *testing.F) {
	f.Add(elf(nil))
	f.Add(elf(func(b, _, _ []byte) { le.PutUint32(b[256:], 0xffffffff) }))
	f.Add(elf(func(b, _, _ []byte) { le.PutUint64(b[32:], 1<<63-1) }))
	f.Fuzz(func(t *testing.T, b []byte) {
		size, err := checkPVH(bytes.NewReader(b))
		if err == nil && size <= 0 {
			t.Errorf("a kernel of %d bytes of memory", size)
		}
	})
}

func TestConfigErrors(t *testing.T) {
	kernel := hypervisor.Resource{Name: "kernel", Bytes: elf(nil)}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tc := range []struct {
		name string
		mod  func(*hypervisor.Config)
		want string
	}{
		{"good", func(*hypervisor.Config) {}, ""},
		{"other architecture", func(c *hypervisor.Config) { c.Arch = "arm64" }, "runs amd64 guests"},
		{"too many CPUs", func(c *hypervisor.Config) { c.CPUs = 129 }, "--cpus"},
		{"too little memory", func(c *hypervisor.Config) { c.MemoryMiB = 51 }, "--memory at least 52"},
		{"initrd does not fit", func(c *hypervisor.Config) { c.Initrd.Bytes = make([]byte, 50<<20) }, "--memory at least 152"},
		{"too much memory", func(c *hypervisor.Config) { c.MemoryMiB = 1 << 40 }, "at most"},
		{"long command line", func(c *hypervisor.Config) { c.CommandLine = strings.Repeat("x", 2000) }, "--boot-args"},
		{"newline", func(c *hypervisor.Config) { c.CommandLine = "a\nb" }, "--boot-args"},
		{"zero byte", func(c *hypervisor.Config) { c.CommandLine = "a\x00b" }, "--boot-args"},
		{"no kernel", func(c *hypervisor.Config) { c.Kernel = hypervisor.Resource{Name: "kernel"} }, "the kernel (kernel) cannot be booted"},
		{"kernel is a folder", func(c *hypervisor.Config) { c.Kernel.File = dir }, "the kernel cannot be read"},
		{"kernel is closed", func(c *hypervisor.Config) { c.Kernel.File = closed }, "the kernel cannot be read"},
		{"half a sector", func(c *hypervisor.Config) {
			c.Disks = []hypervisor.Disk{{Resource: hypervisor.Resource{Name: "rootfs", Bytes: make([]byte, 700)}, ReadOnly: true}}
		}, "sectors"},
		{"empty disk", func(c *hypervisor.Config) {
			c.Disks = []hypervisor.Disk{{Resource: hypervisor.Resource{Name: "rootfs"}, ReadOnly: true}}
		}, "sectors"},
	} {
		cfg := hypervisor.Config{Arch: "amd64", Kernel: kernel, CPUs: 1, MemoryMiB: 128}
		tc.mod(&cfg)
		err := (&Driver{Arch: "amd64"}).check(cfg)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}
