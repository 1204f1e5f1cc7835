package payload

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// The ELF carrier (System V ABI, gABI chapters 4 and 5): a program header of type ptBake covers the payload,
// and so does a section named sectionBake. Kernel and loaders ignore program headers of a type they do not
// know. strip and objcopy keep what the section table names, llvm-strip what a program header covers; either
// of the two is enough to find the payload.
const (
	ptBake      = elf.ProgType(0x64ba4e00) // within PT_LOOS..PT_HIOS; used by nobody else that we know of
	sectionBake = ".bake"

	ehdrSize, phdrSize, shdrSize = 64, 56, 64 // of the 64-bit classes

	maxProgs    = 512     // a Go executable has 6
	maxSections = 8192    // a Go executable has 26
	maxNames    = 1 << 20 // bytes of section names
)

// elfFile is the tables of a 64-bit little-endian ELF file, read and bounded but not otherwise checked.
type elfFile struct {
	header   elf.Header64
	progs    []elf.Prog64
	sections []elf.Section64 // empty if there is no section table
	names    []byte          // contents of the section name table; empty if there is none
}

// FindELF returns where the payload is in an ELF executable: what the program header says, and the section
// must say the same where both are present. Nothing but the tables is read. A file without a payload is
// ErrNoPayload.
func FindELF(r io.ReaderAt) (off, size int64, err error) {
	f, err := readELF(r)
	if err != nil {
		return 0, 0, err
	}
	found := false
	for _, p := range f.progs {
		if elf.ProgType(p.Type) != ptBake {
			continue
		}
		if found {
			return 0, 0, errors.New("the ELF file has two program headers for a payload: it was altered")
		}
		if off, size, err = fileRange(p.Off, p.Filesz); err != nil {
			return 0, 0, fmt.Errorf("the ELF program header of the payload: %w", err)
		}
		found = true
	}
	i := f.bakeSection()
	if i < 0 {
		if !found {
			return 0, 0, fmt.Errorf("the ELF file carries no app: %w", ErrNoPayload)
		}
		return off, size, nil
	}
	sectionOff, sectionSize, err := fileRange(f.sections[i].Off, f.sections[i].Size)
	if err != nil {
		return 0, 0, fmt.Errorf("the ELF section %s: %w", sectionBake, err)
	}
	if found && (off != sectionOff || size != sectionSize) {
		return 0, 0, fmt.Errorf("the ELF program header says the payload is at %d, %d bytes long, and section %s says at %d, %d bytes: the file was altered",
			off, size, sectionBake, sectionOff, sectionSize)
	}
	return sectionOff, sectionSize, nil
}

// readELF reads the tables.
func readELF(r io.ReaderAt) (*elfFile, error) {
	b := make([]byte, ehdrSize)
	if err := readFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("read the ELF header: %w", err)
	}
	f := new(elfFile)
	if err := decode(b, &f.header); err != nil {
		return nil, err
	}
	h := &f.header
	if string(h.Ident[:4]) != elf.ELFMAG {
		return nil, errors.New("not an ELF file")
	}
	if elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Data(h.Ident[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("only 64-bit little-endian ELF files can carry an app: %w", ErrNoPayload)
	}
	if h.Phnum > maxProgs || h.Shnum > maxSections {
		return nil, fmt.Errorf("the ELF file has %d program headers and %d sections, more than the %d and %d allowed here",
			h.Phnum, h.Shnum, maxProgs, maxSections)
	}
	if h.Phnum > 0 && h.Phentsize != phdrSize || h.Shnum > 0 && h.Shentsize != shdrSize {
		return nil, fmt.Errorf("the ELF header says that its tables have entries of %d and %d bytes, not %d and %d",
			h.Phentsize, h.Shentsize, phdrSize, shdrSize)
	}
	f.progs = make([]elf.Prog64, h.Phnum)
	if err := readTable(r, h.Phoff, f.progs); err != nil {
		return nil, fmt.Errorf("read the ELF program headers: %w", err)
	}
	f.sections = make([]elf.Section64, h.Shnum)
	if err := readTable(r, h.Shoff, f.sections); err != nil {
		return nil, fmt.Errorf("read the ELF section headers: %w", err)
	}
	if h.Shnum == 0 {
		return f, nil
	}
	if h.Shstrndx >= h.Shnum {
		return nil, fmt.Errorf("the ELF header names section %d of %d as the one with the names", h.Shstrndx, h.Shnum)
	}
	table := f.sections[h.Shstrndx]
	off, size, err := fileRange(table.Off, table.Size)
	if err != nil || elf.SectionType(table.Type) != elf.SHT_STRTAB || size > maxNames {
		return nil, errors.New("the ELF file has no usable table of section names")
	}
	f.names = make([]byte, size)
	if err := readFull(r, f.names, off); err != nil {
		return nil, fmt.Errorf("read the ELF section names: %w", err)
	}
	return f, nil
}

// bakeSection returns the index of the payload's section, -1 if there is none. A section of that name with
// anything else in it than file contents outside the program's memory is not ours.
func (f *elfFile) bakeSection() int {
	for i, s := range f.sections {
		if f.name(s) == sectionBake && elf.SectionType(s.Type) == elf.SHT_PROGBITS && elf.SectionFlag(s.Flags)&elf.SHF_ALLOC == 0 {
			return i
		}
	}
	return -1
}

func (f *elfFile) name(s elf.Section64) string {
	if uint64(s.Name) >= uint64(len(f.names)) {
		return ""
	}
	name, _, _ := bytes.Cut(f.names[s.Name:], []byte{0})
	return string(name)
}

// readTable fills entries, whose number the caller has bounded, from r[off:].
func readTable[T elf.Prog64 | elf.Section64](r io.ReaderAt, off uint64, entries []T) error {
	if len(entries) == 0 {
		return nil
	}
	start, size, err := fileRange(off, uint64(binary.Size(entries)))
	if err != nil {
		return err
	}
	b := make([]byte, size)
	if err := readFull(r, b, start); err != nil {
		return err
	}
	return decode(b, entries)
}

func decode(b []byte, v any) error {
	_, err := binary.Decode(b, binary.LittleEndian, v)
	return err
}

// fileRange checks that off and size, from a file, can be a range of a file.
func fileRange(off, size uint64) (int64, int64, error) {
	if off > math.MaxInt64 || size > math.MaxInt64-off {
		return 0, 0, fmt.Errorf("offset %d and length %d are not possible in a file", off, size)
	}
	return int64(off), int64(size), nil
}
