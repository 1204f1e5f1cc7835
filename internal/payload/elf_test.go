package payload

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// checkApp opens the app at path and compares every part with its source.
func checkApp(t *testing.T, path string, sources []Source) {
	t.Helper()
	app, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if app.Offset()%Align != 0 {
		t.Errorf("the payload is at %d, not a multiple of %d", app.Offset(), Align)
	}
	if err := app.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	for _, s := range sources {
		if got, err := app.ReadAll(s.Name, s.Size); err != nil || !bytes.Equal(got, contents(t, s)) {
			t.Errorf("part %q differs from its source (%v)", s.Name, err)
		}
	}
}

// checkRuns starts the app where this machine can.
func checkRuns(t *testing.T, path, arch string) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != arch {
		return
	}
	out, err := exec.Command(path).CombinedOutput()
	if err != nil || string(out) != "hello from the payload\n" {
		t.Errorf("the app says %q, %v", out, err)
	}
}

// checkELF reads the file as debug/elf does and compares what the program consists of with the carrier.
func checkELF(t *testing.T, path, carrier string) {
	t.Helper()
	open := func(path string) *elf.File {
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	app, plain := open(path), open(carrier)
	for _, s := range plain.Sections {
		if s.Type == elf.SHT_NULL || s.Type == elf.SHT_NOBITS || s.Name == ".shstrtab" {
			continue
		}
		other := app.Section(s.Name)
		if other == nil {
			t.Fatalf("section %s is lost", s.Name)
		}
		want, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := other.Data(); err != nil || !bytes.Equal(got, want) || other.Addr != s.Addr || other.Link != s.Link {
			t.Errorf("section %s differs (%v)", s.Name, err)
		}
	}
	if got, want := len(app.Progs), len(plain.Progs)+1; got != want {
		t.Fatalf("%d program headers, want %d", got, want)
	}
	for i, p := range plain.Progs {
		if app.Progs[i].ProgHeader != p.ProgHeader && p.Type != elf.PT_PHDR {
			t.Errorf("program header %d is %+v, was %+v", i, app.Progs[i].ProgHeader, p.ProgHeader)
		}
	}
	if p := app.Progs[len(app.Progs)-1]; p.Type != ptBake || p.Flags != elf.PF_R || p.Vaddr != 0 || p.Memsz != 0 {
		t.Errorf("the payload's program header is %+v", p.ProgHeader)
	}
}

// stripTools are what people and packagers run over executables. Each is a command that takes the file last.
var stripTools = []struct {
	name, pkg string
	command   []string
	output    bool // takes the output as another argument instead of working in place
}{
	{"strip", "binutils", []string{"strip"}, false},
	{"strip --strip-unneeded", "binutils", []string{"strip", "--strip-unneeded"}, false},
	{"strip -g", "binutils", []string{"strip", "-g"}, false},
	{"objcopy", "binutils", []string{"objcopy"}, true},
	{"objcopy --strip-all", "binutils", []string{"objcopy", "--strip-all"}, true},
	{"llvm-strip", "llvm", []string{"llvm-strip"}, false},
	{"llvm-strip --strip-unneeded", "llvm", []string{"llvm-strip", "--strip-unneeded"}, false},
	{"llvm-objcopy", "llvm", []string{"llvm-objcopy"}, true},
	{"llvm-objcopy --strip-all", "llvm", []string{"llvm-objcopy", "--strip-all"}, true},
}

// gnu is what the GNU tools for another architecture have before their names, and where they are from.
var gnu = map[string]struct{ prefix, pkg string }{
	"amd64": {"x86_64-linux-gnu-", "binutils-x86-64-linux-gnu"},
	"arm64": {"aarch64-linux-gnu-", "binutils-aarch64-linux-gnu"},
}

func TestELF(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, flags := range [][]string{nil, {"-ldflags=-s -w"}} {
			t.Run(arch+" "+strings.Join(flags, " "), func(t *testing.T) {
				testELF(t, arch, goCarrier(t, arch, flags...))
			})
		}
	}
}

func testELF(t *testing.T, arch, carrier string) {
	sources := testSources(t)
	dir := t.TempDir()
	plain := openCarrier(t, carrier)
	path := filepath.Join(dir, "app")
	create := func(t *testing.T, path string, carrier string, sources []Source) {
		t.Helper()
		if err := Create(t.Context(), path, openCarrier(t, carrier), sources); err != nil {
			t.Fatal(err)
		}
	}

	if _, _, err := FindELF(plain); !errors.Is(err, ErrNoPayload) {
		t.Errorf("plain carrier: %v, want ErrNoPayload", err)
	}
	create(t, path, carrier, sources)
	checkApp(t, path, sources)
	checkELF(t, path, carrier)
	checkRuns(t, path, arch)

	t.Run("again", func(t *testing.T) {
		create(t, filepath.Join(dir, "again"), carrier, sources)
		if !bytes.Equal(readFile(t, path), readFile(t, filepath.Join(dir, "again"))) {
			t.Error("two builds of one input differ")
		}
	})

	t.Run("carrier that carries", func(t *testing.T) {
		other := filepath.Join(dir, "other")
		create(t, other, carrier, []Source{BytesSource("other", noise(5, 300_000))})
		create(t, other, other, sources)
		if !bytes.Equal(readFile(t, path), readFile(t, other)) {
			t.Error("building over another app's payload differs from building afresh")
		}
	})

	for _, tool := range stripTools {
		t.Run(tool.name, func(t *testing.T) {
			command, pkg := tool.command, tool.pkg
			if pkg == "binutils" && runtime.GOARCH != arch {
				command, pkg = slices.Clone(command), gnu[arch].pkg
				command[0] = gnu[arch].prefix + command[0]
			}
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Fatalf("%s is missing: apt-get install %s", command[0], pkg)
			}
			out := filepath.Join(dir, "stripped")
			if err := os.WriteFile(out, readFile(t, path), 0o755); err != nil {
				t.Fatal(err)
			}
			args := append(slices.Clone(command[1:]), out)
			if tool.output {
				args = append(args, out+".new")
			}
			if msg, err := exec.Command(command[0], args...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", tool.name, err, msg)
			}
			if tool.output {
				out += ".new"
			}
			checkApp(t, out, sources)
			checkRuns(t, out, arch)

			// What came out is a carrier again.
			create(t, out, out, sources[:2])
			checkApp(t, out, sources[:2])
			checkRuns(t, out, arch)
		})
	}
}

func TestWriteELFKeepsWhatIsNotLoaded(t *testing.T) {
	for name, change := range map[string]func(*elfFile){
		"behind the segment": nil,
		// as GNU objcopy leaves it
		"from the end of the segment on": func(f *elfFile) { f.progs[1].Filesz = 310 },
		"in the segment":                 func(f *elfFile) { f.progs[1].Filesz = 330 },
	} {
		dst := tempFile(t)
		if err := WriteELF(t.Context(), dst, section(tinyELF(change)), testSources(t)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f, err := elf.NewFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		comment, err := f.Section(".comment").Data()
		if err != nil || string(comment) != "made by hand, 20 b.." {
			t.Errorf("%s: .comment is %q, %v", name, comment, err)
		}
		checkApp(t, dst.Name(), testSources(t))
	}
}

func TestWriteELFRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*elfFile)
		want   string
	}{
		{"object file", func(f *elfFile) { f.header.Type = uint16(elf.ET_REL) }, "not an executable"},
		{"other machine", func(f *elfFile) { f.header.Machine = uint16(elf.EM_S390) }, "only x86-64 and arm64"},
		{"32 bits", func(f *elfFile) { f.header.Ident[elf.EI_CLASS] = 1 }, "only 64-bit little-endian"},
		{"big endian", func(f *elfFile) { f.header.Ident[elf.EI_DATA] = 2 }, "only 64-bit little-endian"},
		{"no segments", func(f *elfFile) { f.header.Phnum, f.header.Phoff = 0, 1<<63 }, "no program headers"},
		{"no sections", func(f *elfFile) { f.header.Shnum, f.header.Shoff = 0, 0 }, "no section table"},
		{"no names", func(f *elfFile) { f.header.Shstrndx = 9 }, "names section 9 of 4"},
		{"names elsewhere", func(f *elfFile) { f.sections[3].Off = 1 << 40 }, "read the ELF section names"},
		{"names impossible", func(f *elfFile) { f.sections[3].Off = math.MaxUint64 }, "no usable table of section names"},
		{"names huge", func(f *elfFile) { f.sections[3].Size = 1 << 40 }, "no usable table of section names"},
		{"program headers outside", func(f *elfFile) { f.header.Phoff = 1 << 30 }, "read the ELF program headers"},
		{"program headers impossible", func(f *elfFile) { f.header.Phoff = math.MaxUint64 - 8 }, "read the ELF program headers"},
		{"many sections", func(f *elfFile) { f.header.Shnum = 60000 }, "more than the"},
		{"odd entries", func(f *elfFile) { f.header.Phentsize = 32 }, "entries of 32"},
		{"segment outside", func(f *elfFile) { f.progs[1].Filesz = 1 << 40 }, "segment 1 is outside the file"},
		{"segment overflows", func(f *elfFile) { f.progs[1].Off = math.MaxUint64 - 1 }, "segment 1 is outside the file"},
		{"section outside", func(f *elfFile) { f.sections[2].Off = 1 << 40 }, "section 2 is outside the file"},
		{"loaded section outside", func(f *elfFile) { f.sections[1].Off = 1 << 40 }, "section 1 is outside the file"},
		{"odd alignment", func(f *elfFile) { f.sections[2].Addralign = 3 }, "impossible alignment"},
		{"no room", func(f *elfFile) { f.sections[1].Off = ehdrSize + 2*phdrSize + 8 }, "no room for another program header"},
		{"unmapped table", func(f *elfFile) { f.progs[1].Off, f.progs[1].Filesz = 240, 32 }, "no room for another program header"},
		{"wrong PT_PHDR", func(f *elfFile) { f.progs[0].Filesz = 8 }, "PT_PHDR does not describe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := WriteELF(t.Context(), tempFile(t), section(tinyELF(test.change)), nil)
			wantError(t, err, test.want)
		})
	}
	t.Run("trailing data", func(t *testing.T) {
		err := WriteELF(t.Context(), tempFile(t), section(append(tinyELF(nil), "PK.."...)), nil)
		wantError(t, err, "4 bytes follow")
	})
	t.Run("overlapping sections", func(t *testing.T) {
		b := tinyELF(func(f *elfFile) {
			f.sections = append(f.sections, elf.Section64{Name: 7, Type: uint32(elf.SHT_PROGBITS), Off: 310, Size: 5})
			f.header.Shnum++
		})
		wantError(t, WriteELF(t.Context(), tempFile(t), section(b), nil), "sections 2 and 4 overlap")
	})
}

func TestFindELF(t *testing.T) {
	app := tinyApp(t, testSources(t))
	wantOff, wantSize, err := FindELF(bytes.NewReader(app))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(change func(*elfFile)) []byte {
		f, err := readELF(bytes.NewReader(app))
		if err != nil {
			t.Fatal(err)
		}
		p := elfPlan{elfFile: *f}
		change(&p.elfFile)
		b := slices.Clone(app)
		for _, piece := range p.pieces() {
			if piece.off >= 0 && piece.off < int64(len(b)) {
				copy(b[piece.off:], piece.bytes)
			}
		}
		return b
	}
	const prog, sect = 2, 4
	for _, test := range []struct {
		name   string
		change func(*elfFile)
		want   string // of the error; none if the payload must be found
	}{
		{"as written", func(*elfFile) {}, ""},
		{"program header only", func(f *elfFile) { f.sections[sect].Name = 0 }, ""},
		{"no section table", func(f *elfFile) { f.header.Shnum = 0 }, ""},
		{"section only", func(f *elfFile) { f.progs[prog].Type = 0 }, ""},
		{"neither", func(f *elfFile) { f.progs[prog].Type, f.sections[sect].Name = 0, 0 }, "no payload"},
		{"section is loaded", func(f *elfFile) { f.progs[prog].Type = 0; f.sections[sect].Flags = uint64(elf.SHF_ALLOC) }, "no payload"},
		{"two program headers", func(f *elfFile) { f.progs[0].Type = uint32(ptBake) }, "two program headers"},
		{"they disagree on the offset", func(f *elfFile) { f.progs[prog].Off += Align }, "the file was altered"},
		{"they disagree on the size", func(f *elfFile) { f.sections[sect].Size-- }, "the file was altered"},
		{"impossible offset", func(f *elfFile) { f.progs[prog].Off = math.MaxUint64 }, "not possible in a file"},
		{"impossible end", func(f *elfFile) { f.progs[prog].Filesz = math.MaxInt64 }, "not possible in a file"},
		{"impossible section", func(f *elfFile) { f.sections[sect].Off = math.MaxUint64 }, "not possible in a file"},
		{"section name outside", func(f *elfFile) { f.sections[sect].Name = math.MaxUint32 }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			off, size, err := FindELF(bytes.NewReader(edit(test.change)))
			if test.want != "" {
				wantError(t, err, test.want)
			} else if err != nil || off != wantOff || size != wantSize {
				t.Errorf("%d, %d, %v; want %d, %d", off, size, err, wantOff, wantSize)
			}
		})
	}
}

// FuzzFindELF feeds whole files: finding must not fail otherwise than by an error, and neither must taking
// such a file as a carrier.
func FuzzFindELF(f *testing.F) {
	f.Add(tinyELF(nil))
	f.Add(tinyApp(f, []Source{BytesSource("a", []byte("b"))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		if off, size, err := FindELF(r); err == nil {
			if off < 0 || size < 0 || off+size < off {
				t.Fatalf("found %d, %d", off, size)
			}
			if p, err := Open(r, off, size); err == nil {
				_ = p.Verify(t.Context())
			}
		}
		tables, err := readELF(r)
		if err != nil {
			return
		}
		plan, err := planELF(tables, int64(len(b)))
		if err != nil {
			return
		}
		plan.place(Align)
		for _, piece := range plan.pieces() {
			if piece.off < 0 || piece.off+int64(len(piece.bytes)) > 4*(Align+int64(len(b))+1) {
				t.Fatalf("a table of %d bytes would be written at %d", len(piece.bytes), piece.off)
			}
		}
		for _, m := range plan.moved {
			if m.from < 0 || m.from+m.size > int64(len(b)) || m.to < 0 {
				t.Fatalf("impossible move %+v", m)
			}
		}
	})
}
