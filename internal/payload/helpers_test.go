package payload

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testManifest is a valid manifest with something in most fields.
func testManifest() *Manifest {
	uid := uint32(999)
	return &Manifest{
		Version:     ManifestVersion,
		BakeVersion: "1.2.3",
		Target:      Target{OS: "linux", Arch: "amd64"},
		Image: Image{
			Ref:    "registry.example/redis:7",
			Digest: "sha256:" + strings.Repeat("ab", 32),
			Layers: []string{"sha256:" + strings.Repeat("01", 32)},
		},
		Rootfs: Rootfs{Type: "erofs"},
		Process: Process{
			Entrypoint: []string{"/entry", "<&>"}, Cmd: []string{"redis-server"}, Args: []string{"--port", "1"},
			Env: []string{"PATH=/bin", "EMPTY="}, Cwd: "/data", User: "redis:redis", UID: &uid,
			StopSignal: "SIGRTMIN+3", ExposedPorts: []string{"6379/tcp", "80", "8000-8010/udp"},
			Labels:      map[string]string{"b": "2", "a": "1"},
			Healthcheck: &Healthcheck{Test: []string{"CMD-SHELL", "true"}, Interval: time.Second, StartInterval: time.Millisecond, Retries: 3},
		},
		Kernel:   Kernel{Version: "6.12.1", Source: "linux-source-6.12", Arch: "amd64", SHA256: strings.Repeat("cd", 32), Modules: true},
		VMM:      VMM{Kind: "qemu", Version: "7.2", Entry: "bin/qemu-system-x86_64"},
		Defaults: Defaults{CPUs: 2, MemoryMiB: 512, EphemeralDiskMiB: 2048, BootArgs: "quiet", Hypervisor: "qemu"},
		Network:  Network{Allow: []string{"*.example.com:443/tcp", "10.0.0.0/8"}, Deny: []string{"10.0.0.1"}, HostLoopback: true},
	}
}

// testSources are parts with lengths on and around the interesting borders.
func testSources(t testing.TB) []Source {
	t.Helper()
	manifest, err := EncodeManifest(testManifest())
	if err != nil {
		t.Fatal(err)
	}
	return []Source{
		BytesSource(PartManifest, manifest),
		BytesSource("greeting", []byte("hello from the payload\n")),
		BytesSource("empty", nil),
		BytesSource("block", noise(1, Align)),
		BytesSource(PartRootfs, noise(2, Align+1)),
	}
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

// contents reads what a source would write.
func contents(t testing.TB, s Source) []byte {
	t.Helper()
	r, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// writePayload returns the bytes of a payload.
func writePayload(t testing.TB, sources []Source) []byte {
	t.Helper()
	f := tempFile(t)
	if _, err := Write(t.Context(), f, 0, sources); err != nil {
		t.Fatal(err)
	}
	return readFile(t, f.Name())
}

func tempFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// goCarrier builds testdata/selfcheck.
func goCarrier(t testing.TB, arch string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "carrier-"+arch)
	args := append([]string{"build", "-o", out}, flags...)
	cmd := exec.Command("go", append(args, "./testdata/selfcheck")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the test carrier: %v\n%s", err, msg)
	}
	return out
}

// openCarrier returns path as Create wants it.
func openCarrier(t testing.TB, path string) *io.SectionReader {
	t.Helper()
	return section(readFile(t, path))
}

// tinyELF is the smallest carrier that WriteELF takes: one loaded segment with nothing that runs, an unloaded
// section, names. change may alter the tables before they are written.
func tinyELF(change func(*elfFile)) []byte {
	names := []byte("\x00.text\x00.comment\x00.shstrtab\x00")
	const textOff, commentOff, namesOff, tableOff = 256, 300, 320, 352
	f := &elfFile{
		header: elf.Header64{
			Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: 0x400000 + textOff,
			Phoff: ehdrSize, Shoff: tableOff, Ehsize: ehdrSize, Phentsize: phdrSize, Shentsize: shdrSize, Shstrndx: 3,
		},
		progs: []elf.Prog64{
			{Type: uint32(elf.PT_PHDR), Flags: 4, Off: ehdrSize, Vaddr: 0x400000 + ehdrSize, Filesz: 2 * phdrSize, Memsz: 2 * phdrSize, Align: 8},
			{Type: uint32(elf.PT_LOAD), Flags: 5, Vaddr: 0x400000, Filesz: textOff + 16, Memsz: textOff + 16, Align: 4096},
		},
		sections: []elf.Section64{
			{},
			{Name: 1, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC), Addr: 0x400000 + textOff, Off: textOff, Size: 16, Addralign: 1},
			{Name: 7, Type: uint32(elf.SHT_PROGBITS), Off: commentOff, Size: 20, Addralign: 1},
			{Name: 16, Type: uint32(elf.SHT_STRTAB), Off: namesOff, Size: uint64(len(names)), Addralign: 1},
		},
	}
	copy(f.header.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	f.header.Phnum, f.header.Shnum = uint16(len(f.progs)), uint16(len(f.sections))
	if change != nil {
		change(f)
	}
	b := make([]byte, tableOff)
	put := func(off uint64, v any) { // only offsets within b move nothing
		encoded, _ := binary.Append(nil, binary.LittleEndian, v)
		if need := int(off) + len(encoded); off < 1<<20 && need > len(b) {
			b = append(b, make([]byte, need-len(b))...)
		}
		if off < uint64(len(b)) {
			copy(b[off:], encoded)
		}
	}
	copy(b[commentOff:], "made by hand, 20 b..")
	put(tableOff, f.sections)
	put(ehdrSize, f.progs)
	put(namesOff, names)
	put(0, f.header)
	return b
}

// tinyApp is a whole app in well under a megabyte.
func tinyApp(t testing.TB, sources []Source) []byte {
	t.Helper()
	f := tempFile(t)
	if err := WriteELF(t.Context(), f, section(tinyELF(nil)), sources); err != nil {
		t.Fatal(err)
	}
	return readFile(t, f.Name())
}

// wantError checks that an error is there and speaks of what it should.
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want one that contains %q", err, want)
	}
}
