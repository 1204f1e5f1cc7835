package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// section is a section of an ELF file that a test makes.
type section struct {
	name string
	kind elf.SectionType
	data []byte
}

// makeELF makes a small, valid 64-bit ELF file. An executable gets one PT_LOAD over all sections, and a PT_NOTE over a
// section called .notes.
func makeELF(t testing.TB, kind elf.Type, machine elf.Machine, sections ...section) []byte {
	t.Helper()
	names := []byte{0}
	nameAt := map[string]uint32{}
	for _, s := range append(sections, section{name: ".shstrtab"}) {
		nameAt[s.name] = uint32(len(names))
		names = append(append(names, s.name...), 0)
	}
	sections = append(sections, section{".shstrtab", elf.SHT_STRTAB, names})

	const ehdr, phdr = 64, 56
	var progs []elf.Prog64
	body := ehdr
	if kind == elf.ET_EXEC {
		body += 2 * phdr
	}
	var payload bytes.Buffer
	headers := []elf.Section64{{}}
	for _, s := range sections {
		for payload.Len()%8 != 0 {
			payload.WriteByte(0)
		}
		off := uint64(body + payload.Len())
		headers = append(headers, elf.Section64{Name: nameAt[s.name], Type: uint32(s.kind), Off: off, Size: uint64(len(s.data)), Addralign: 1})
		if s.name == ".notes" {
			progs = append(progs, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: off, Filesz: uint64(len(s.data)), Memsz: uint64(len(s.data)), Align: 4})
		}
		payload.Write(s.data)
	}
	for payload.Len()%8 != 0 {
		payload.WriteByte(0)
	}
	if kind == elf.ET_EXEC {
		load := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: uint64(body), Filesz: uint64(payload.Len()), Memsz: uint64(payload.Len()), Align: 8}
		progs = append([]elf.Prog64{load}, progs...)
	}
	header := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(kind), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Shoff: uint64(body + payload.Len()), Ehsize: ehdr, Shentsize: 64,
		Shnum: uint16(len(headers)), Shstrndx: uint16(len(headers) - 1),
	}
	if len(progs) > 0 {
		header.Phoff, header.Phentsize, header.Phnum = ehdr, phdr, uint16(len(progs))
	}
	var file bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&file, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	put(header)
	put(progs)
	file.Write(make([]byte, body-file.Len()))
	file.Write(payload.Bytes())
	put(headers)
	return file.Bytes()
}

// note is an ELF note of type 18 from owner.
func note(owner string, kind uint32) []byte {
	name := append([]byte(owner), 0)
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, 8)
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(b, name...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return append(b, 1, 2, 3, 4, 5, 6, 7, 8)
}

func makeVmlinux(t testing.TB, version string) []byte {
	t.Helper()
	rodata := "%s version %s (format)\x00" + banner + "%s\x00" + banner + version + " (builder@host) #1 SMP\x00" + strings.Repeat("text ", 500)
	return makeELF(t, elf.ET_EXEC, elf.EM_X86_64,
		// Calls, which the branch filter of xz rewrites.
		section{".text", elf.SHT_PROGBITS, bytes.Repeat([]byte("\xe8\x10\x02\x00\x00\x90\xc3"), 64)},
		section{".rodata", elf.SHT_PROGBITS, []byte(rodata)},
		section{".notes", elf.SHT_NOTE, append(note("Linux", 1), note("Xen", xenPhys32Entry)...)})
}

func makeArm64Image(version string) []byte {
	image := make([]byte, arm64HeaderSize)
	copy(image, "MZ")
	copy(image[arm64MagicAt:], arm64Magic)
	return append(image, banner+version+" (builder@host) #1 SMP"+strings.Repeat(" text", 100)...)
}

// makeBzImage puts a payload behind a setup header of protocol 2.15.
func makeBzImage(payload []byte) []byte {
	const setupSects, payloadAt = 3, 0x2c4
	image := make([]byte, (setupSects+1)*sector+payloadAt)
	image[setupSectsAt] = setupSects
	binary.LittleEndian.PutUint16(image[bootFlagAt:], 0xaa55)
	copy(image[headerMagicAt:], "HdrS")
	binary.LittleEndian.PutUint16(image[protocolAt:], 0x020f)
	binary.LittleEndian.PutUint32(image[payloadOffsetAt:], payloadAt)
	binary.LittleEndian.PutUint32(image[payloadLengthAt:], uint32(len(payload)))
	return append(append(image, payload...), "what follows the payload"...)
}

func makeZboot(payload []byte) []byte {
	image := make([]byte, 1024)
	copy(image, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(image[8:], 1024)
	binary.LittleEndian.PutUint32(image[12:], uint32(len(payload)))
	return append(append(image, payload...), make([]byte, 100)...)
}

// withSize appends what scripts/Makefile.lib appends.
func withSize(compressed []byte, plain int) []byte {
	return binary.LittleEndian.AppendUint32(compressed, uint32(plain))
}

// compressAs packs data in a format. The tools' own formats that Go cannot write are in testdata.
func compressAs(t testing.TB, format string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	fail := func(err error) {
		if err != nil {
			t.Fatalf("compress as %s: %v", format, err)
		}
	}
	switch format {
	case "gzip":
		w := gzip.NewWriter(&out)
		_, err := w.Write(data)
		fail(err)
		fail(w.Close())
	case "xz":
		w, err := xz.NewWriter(&out)
		fail(err)
		_, err = w.Write(data)
		fail(err)
		fail(w.Close())
	case "lzma":
		w, err := lzma.NewWriter(&out)
		fail(err)
		_, err = w.Write(data)
		fail(err)
		fail(w.Close())
	case "zstd":
		w, err := zstd.NewWriter(&out)
		fail(err)
		_, err = w.Write(data)
		fail(err)
		fail(w.Close())
	case "lz4":
		w := lz4.NewWriter(&out)
		fail(w.Apply(lz4.LegacyOption(true)))
		_, err := w.Write(data)
		fail(err)
		fail(w.Close())
	case "bzip2", "xz-x86":
		packed, err := os.ReadFile(filepath.Join("testdata", "vmlinux."+format))
		fail(err)
		return packed
	default:
		t.Fatalf("no such format: %s", format)
	}
	return out.Bytes()
}

// ko describes a module that a test makes.
type ko struct {
	name, version, depends, softdep string
	machine                         elf.Machine
}

func (k ko) bytes(t testing.TB) []byte {
	t.Helper()
	if k.machine == 0 {
		k.machine = elf.EM_X86_64
	}
	info := []string{"license=GPL", "depends=" + k.depends, "name=" + k.name, "vermagic=" + k.version + " SMP preempt mod_unload "}
	if k.softdep != "" {
		info = append(info, "softdep="+k.softdep)
	}
	return makeELF(t, elf.ET_REL, k.machine,
		section{".text", elf.SHT_PROGBITS, []byte("code of " + k.name)},
		section{".modinfo", elf.SHT_PROGBITS, []byte(strings.Join(info, "\x00") + "\x00")})
}

func writeFile(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
