package kernel

import (
	"debug/elf"
	"slices"
	"strings"
	"testing"
)

func TestReadModule(t *testing.T) {
	data := ko{name: "virtio-rng", version: testVersion, depends: "virtio,virtio_ring, rng-core", softdep: "pre: crc32c sha-256 post: x pre: y"}.bytes(t)
	// Signed modules have the signature after the ELF file.
	data = append(data, "~Module signature appended~\n"...)
	got, err := readModule(data)
	if err != nil {
		t.Fatal(err)
	}
	if got.name != "virtio_rng" || got.version != testVersion || got.arch != "amd64" {
		t.Errorf("got %+v", got)
	}
	if want := []string{"virtio", "virtio_ring", "rng_core"}; !slices.Equal(got.depends, want) {
		t.Errorf("depends: got %q, want %q", got.depends, want)
	}
	if want := []string{"crc32c", "sha-256", "y"}; !slices.Equal(got.softPre, want) {
		t.Errorf("soft dependencies: got %q, want %q", got.softPre, want)
	}
}

func TestReadModuleErrors(t *testing.T) {
	nobits := makeELF(t, elf.ET_REL, elf.EM_X86_64, section{".modinfo", elf.SHT_NOBITS, []byte("name=x\x00")})
	for _, tt := range []struct {
		name string
		in   []byte
		want string
	}{
		{"empty", nil, "not a kernel module"},
		{"a program", makeVmlinux(t, testVersion), "ET_EXEC"},
		{"no .modinfo", makeELF(t, elf.ET_REL, elf.EM_X86_64, section{".text", elf.SHT_PROGBITS, []byte("x")}), "no .modinfo"},
		{".modinfo without data", nobits, "damaged"},
		{"for mips", makeELF(t, elf.ET_REL, elf.EM_MIPS), "EM_MIPS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readModule(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got the error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestModuleFileName(t *testing.T) {
	for in, want := range map[string]string{
		"virtio-rng.ko": "virtio_rng", "ext4.ko.xz": "ext4", "9p.ko.zst": "9p", "erofs.ko.gz": "erofs",
		"modules.builtin": "", "x.ko.bak": "", ".ko": "", "a b.ko": "", strings.Repeat("a", 60) + ".ko": "",
	} {
		got, ok := moduleFileName(in)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzReadModule(f *testing.F) {
	f.Add(ko{name: "virtio_blk", version: testVersion, depends: "virtio,virtio_ring", softdep: "pre: crc32c"}.bytes(f))
	f.Add(ko{name: "ext4", version: testVersion, machine: elf.EM_AARCH64}.bytes(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := readModule(data)
		if err == nil && info.arch != "amd64" && info.arch != "arm64" {
			t.Errorf("accepted a module for %q", info.arch)
		}
	})
}

func FuzzParseMeta(f *testing.F) {
	f.Add([]byte(`{"format":1,"arch":"amd64","version":"6.1.0","source":"x","image":"vmlinux","image_sha256":"` + strings.Repeat("0", 64) + `","modules":[{"name":"ext4","file":"modules/000-ext4.ko","sha256":"` + strings.Repeat("a", 64) + `"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMeta(data)
		if err != nil {
			return
		}
		for _, name := range (&Bundle{Meta: m}).files() {
			if name == "" || strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..") {
				t.Errorf("accepted the file name %q", name)
			}
		}
	})
}
