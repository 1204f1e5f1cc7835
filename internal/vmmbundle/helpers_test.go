package vmmbundle

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A fakeELF is a file that says of itself what a dynamic loader wants to know, and nothing else.
type fakeELF struct {
	machine elf.Machine // x86-64 unless set
	interp  string
	needed  []string
	rpath   string
	runpath string
	rodata  string
}

// bytes lays it out: header, one program header, sections, names, section headers.
func (f fakeELF) bytes() []byte {
	const ehdr, phdr, shdr = 64, 56, 64
	if f.machine == 0 {
		f.machine = elf.EM_X86_64
	}
	var dynstr = bytes.NewBuffer([]byte{0})
	var dynamic []elf.Dyn64
	add := func(tag elf.DynTag, s string) {
		if s != "" {
			dynamic = append(dynamic, elf.Dyn64{Tag: int64(tag), Val: uint64(dynstr.Len())})
			dynstr.WriteString(s + "\x00")
		}
	}
	for _, name := range f.needed {
		add(elf.DT_NEEDED, name)
	}
	add(elf.DT_RPATH, f.rpath)
	add(elf.DT_RUNPATH, f.runpath)
	dynamic = append(dynamic, elf.Dyn64{})

	body := bytes.NewBuffer(nil)
	put := func(v any) (off, size uint64) {
		encoded, _ := binary.Append(nil, binary.LittleEndian, v)
		off = ehdr + phdr + uint64(body.Len())
		body.Write(encoded)
		return off, uint64(len(encoded))
	}
	names := "\x00.dynstr\x00.dynamic\x00.rodata\x00.shstrtab\x00"
	name := func(s string) uint32 { return uint32(strings.Index(names, s)) }
	section := func(s string, t elf.SectionType, v any) elf.Section64 {
		off, size := put(v)
		return elf.Section64{Name: name(s), Type: uint32(t), Off: off, Size: size, Addralign: 1}
	}
	interp := elf.Prog64{}
	if f.interp != "" {
		off, size := put([]byte(f.interp + "\x00"))
		interp = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: off, Filesz: size}
	}
	sections := []elf.Section64{
		{},
		section(".dynstr", elf.SHT_STRTAB, dynstr.Bytes()),
		section(".dynamic", elf.SHT_DYNAMIC, dynamic),
		section(".rodata", elf.SHT_PROGBITS, []byte(f.rodata)),
		section(".shstrtab", elf.SHT_STRTAB, []byte(names)),
	}
	sections[2].Link = 1
	tableOff, _ := put(sections)
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(f.machine), Version: 1, Phoff: ehdr, Shoff: tableOff,
		Ehsize: ehdr, Phentsize: phdr, Phnum: 1, Shentsize: shdr, Shnum: uint16(len(sections)), Shstrndx: 4,
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	b, _ := binary.Append(nil, binary.LittleEndian, h)
	b, _ = binary.Append(b, binary.LittleEndian, interp)
	return append(b, body.Bytes()...)
}

// makeTree writes files (contents: []byte, string, fakeELF) and links (paths that begin with "-> ") below a
// new root.
func makeTree(t testing.TB, files map[string]any) tree {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch content := content.(type) {
		case string:
			if target, ok := strings.CutPrefix(content, "-> "); ok {
				err = os.Symlink(target, p)
			} else {
				err = os.WriteFile(p, []byte(content), 0o644)
			}
		case []byte:
			err = os.WriteFile(p, content, 0o644)
		case fakeELF:
			err = os.WriteFile(p, content.bytes(), 0o755)
		default:
			t.Fatalf("%s: contents are a %T", name, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return tree{root}
}

// ldCache makes an ld.so.cache of name, path pairs; a path that begins with "!" is for special hardware only.
func ldCache(pairs ...string) []byte {
	le := binary.LittleEndian
	strs := bytes.NewBuffer(nil)
	count := len(pairs) / 2
	base := 48 + 24*count
	at := func(s string) uint32 {
		off := base + strs.Len()
		strs.WriteString(s + "\x00")
		return uint32(off)
	}
	var entries []byte
	for i := 0; i < len(pairs); i += 2 {
		p, special := strings.CutPrefix(pairs[i+1], "!")
		entries = le.AppendUint32(entries, 0x0303)
		entries = le.AppendUint32(entries, at(pairs[i]))
		entries = le.AppendUint32(entries, at(p))
		entries = le.AppendUint32(entries, 0)
		var hwcap uint64
		if special {
			hwcap = 1 << 62
		}
		entries = le.AppendUint64(entries, hwcap)
	}
	b := []byte(ldMagic)
	b = le.AppendUint32(b, uint32(count))
	b = le.AppendUint32(b, uint32(strs.Len()))
	b = append(b, make([]byte, 48-len(b))...)
	return append(append(b, entries...), strs.Bytes()...)
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want one that contains %q", err, want)
	}
}
