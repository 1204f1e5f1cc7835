package payload

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// WriteELF writes to dst, an empty file, a copy of the ELF executable carrier with the payload of the sources
// in it:
//
//	what the kernel loads, where it was
//	sections that are not loaded (symbols, debugging), moved together
//	the payload, at a multiple of Align
//	section names, section headers
//
// The carrier may itself carry a payload, which is left out. It must be a static or dynamic executable for
// x86-64 or arm64 with a section table and 56 unused bytes after its program headers, as every Go program has.
// The same inputs give the same bytes.
func WriteELF(ctx context.Context, dst *os.File, carrier *io.SectionReader, sources []Source) error {
	f, err := readELF(carrier)
	if err != nil {
		return fmt.Errorf("the carrier: %w", err)
	}
	size, err := Size(sources)
	if err != nil {
		return err
	}
	plan, err := planELF(f, carrier.Size())
	if err != nil {
		return fmt.Errorf("the carrier: %w", err)
	}
	plan.place(size)

	if err := copyAt(dst, 0, carrier, 0, plan.kept); err != nil {
		return fmt.Errorf("copy the carrier: %w", err)
	}
	for _, m := range plan.moved {
		if err := copyAt(dst, m.to, carrier, m.from, m.size); err != nil {
			return fmt.Errorf("copy the carrier's sections: %w", err)
		}
	}
	if _, err := Write(ctx, dst, plan.payloadOff, sources); err != nil {
		return err
	}
	for _, piece := range plan.pieces() {
		if _, err := dst.WriteAt(piece.bytes, piece.off); err != nil {
			return fmt.Errorf("write the ELF tables: %w", err)
		}
	}
	return nil
}

// An elfPlan is the carrier's tables as they will be, and which bytes of it go where.
type elfPlan struct {
	elfFile
	bake       int       // index of the payload's section
	kept       int64     // carrier[:kept] stays where it is
	moved      []elfMove // what comes after it
	stale      [2]int64  // range within kept that held the old section headers and belongs to nothing now
	payloadOff int64
}

type elfMove struct {
	section        int
	from, to, size int64
}

type elfPiece struct {
	off   int64
	bytes []byte
}

// planELF checks that the carrier can be rewritten and sorts its contents into what stays and what moves.
func planELF(f *elfFile, fileSize int64) (*elfPlan, error) {
	h := f.header
	if t := elf.Type(h.Type); t != elf.ET_EXEC && t != elf.ET_DYN {
		return nil, fmt.Errorf("it is of type %v, not an executable", t)
	}
	if m := elf.Machine(h.Machine); m != elf.EM_X86_64 && m != elf.EM_AARCH64 {
		return nil, fmt.Errorf("it is for %v; only x86-64 and arm64 are supported", m)
	}
	if len(f.progs) == 0 {
		return nil, errors.New("it has no program headers, so nothing could run it")
	}
	if len(f.sections) == 0 {
		return nil, errors.New("it has no section table (sstrip takes it away): take the executable as it was linked")
	}
	p := &elfPlan{elfFile: elfFile{header: h, names: f.names, sections: slices.Clone(f.sections), progs: slices.Clone(f.progs)}}
	end, err := p.dropPayload(fileSize)
	if err != nil {
		return nil, err
	}
	contentsEnd, err := p.sortSections(fileSize)
	if err != nil {
		return nil, err
	}
	tableEnd := int64(h.Shoff) + int64(len(f.sections))*shdrSize // read, so it is in the file
	if end = max(end, contentsEnd, tableEnd); end < fileSize {
		return nil, fmt.Errorf("%d bytes follow what its tables name, and would be lost: take the executable as it was linked", fileSize-end)
	}
	return p, p.addProgram(len(f.progs), int64(h.Shoff), tableEnd)
}

// dropPayload takes out what the carrier carries already and makes room in the section table. It returns where
// the old payload ended, 0 if there was none.
func (p *elfPlan) dropPayload(fileSize int64) (end int64, err error) {
	ranges := func(off, size uint64) error {
		start, length, err := fileRange(off, size)
		if err != nil || start+length > fileSize {
			return errors.New("the payload that it carries already is outside the file")
		}
		end = max(end, start+length)
		return nil
	}
	for _, ph := range p.progs {
		if elf.ProgType(ph.Type) == ptBake {
			if err := ranges(ph.Off, ph.Filesz); err != nil {
				return 0, err
			}
		}
	}
	p.progs = slices.DeleteFunc(p.progs, func(ph elf.Prog64) bool { return elf.ProgType(ph.Type) == ptBake })
	if i := p.bakeSection(); i >= 0 {
		if err := ranges(p.sections[i].Off, p.sections[i].Size); err != nil {
			return 0, err
		}
	}
	p.addSection()
	return end, nil
}

// addSection makes room for the payload's section: the one it had, or a new one at the end, so that indices in
// symbols and links stay true.
func (p *elfPlan) addSection() {
	if p.bake = p.bakeSection(); p.bake < 0 {
		p.bake = len(p.sections)
		p.sections = append(p.sections, elf.Section64{})
	}
	entry := []byte(sectionBake + "\x00")
	at := bytes.Index(p.names, entry)
	if at < 0 {
		at = len(p.names)
		p.names = append(slices.Clone(p.names), entry...)
	}
	p.sections[p.bake] = elf.Section64{Name: uint32(at), Type: uint32(elf.SHT_PROGBITS), Addralign: Align}
}

// sortSections decides how much of the file stays, from segments and loaded sections, and lists the sections
// that move. It returns the end of the last byte that something names.
func (p *elfPlan) sortSections(fileSize int64) (end int64, err error) {
	inFile := func(what string, off, size uint64) (int64, error) {
		start, length, err := fileRange(off, size)
		if err != nil || start+length > fileSize {
			return 0, fmt.Errorf("%s is outside the file", what)
		}
		return start + length, nil
	}
	p.kept = ehdrSize
	for i, ph := range p.progs {
		segmentEnd, err := inFile(fmt.Sprintf("segment %d", i), ph.Off, ph.Filesz)
		if err != nil {
			return 0, err
		}
		p.kept = max(p.kept, segmentEnd)
	}
	for i, s := range p.sections {
		if elf.SectionFlag(s.Flags)&elf.SHF_ALLOC == 0 || !hasContents(s) {
			continue
		}
		sectionEnd, err := inFile(fmt.Sprintf("section %d", i), s.Off, s.Size)
		if err != nil {
			return 0, err
		}
		p.kept = max(p.kept, sectionEnd)
	}
	end = p.kept
	for i, s := range p.sections {
		if i == p.bake || elf.SectionFlag(s.Flags)&elf.SHF_ALLOC != 0 || !hasContents(s) {
			continue
		}
		sectionEnd, err := inFile(fmt.Sprintf("section %d", i), s.Off, s.Size)
		if err != nil {
			return 0, err
		}
		end = max(end, sectionEnd)
		switch {
		case i == int(p.header.Shstrndx) || sectionEnd <= p.kept:
		case s.Addralign > Align || s.Addralign&(s.Addralign-1) != 0:
			return 0, fmt.Errorf("section %d has an impossible alignment: %d", i, s.Addralign)
		default:
			p.moved = append(p.moved, elfMove{section: i, from: int64(s.Off), size: int64(s.Size)})
		}
	}
	slices.SortFunc(p.moved, func(a, b elfMove) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.size, b.size), cmp.Compare(a.section, b.section))
	})
	// GNU objcopy puts the first of them into the rest of the last segment's page: such a one stays too.
	for len(p.moved) > 0 && p.moved[0].from < p.kept {
		p.kept = max(p.kept, p.moved[0].from+p.moved[0].size)
		p.moved = p.moved[1:]
	}
	for i := 1; i < len(p.moved); i++ {
		if before := p.moved[i-1]; p.moved[i].from < before.from+before.size {
			return 0, fmt.Errorf("sections %d and %d overlap", before.section, p.moved[i].section)
		}
	}
	return end, nil
}

func hasContents(s elf.Section64) bool {
	t := elf.SectionType(s.Type)
	return t != elf.SHT_NULL && t != elf.SHT_NOBITS && s.Size > 0
}

// addProgram adds the payload's program header behind the others, if nothing is there. The old section headers,
// which Go's linker puts right there, do not count: they move.
func (p *elfPlan) addProgram(oldCount int, oldTable, oldTableEnd int64) error {
	tableEnd := int64(p.header.Phoff) + int64(len(p.progs))*phdrSize
	newEnd := tableEnd + phdrSize
	next := p.kept // start of what comes after the table
	taken := func(off, size uint64) {
		if size > 0 && int64(off+size) > tableEnd && int64(off) >= ehdrSize {
			next = min(next, int64(off))
		}
	}
	mapped, hasPHDR := int64(0), false
	for i := range p.progs {
		ph := &p.progs[i]
		switch elf.ProgType(ph.Type) {
		case elf.PT_PHDR:
			hasPHDR = true
			if ph.Off != p.header.Phoff || ph.Filesz != uint64(oldCount)*phdrSize {
				return errors.New("its PT_PHDR does not describe its program headers")
			}
			ph.Filesz = uint64(len(p.progs)+1) * phdrSize
			ph.Memsz = ph.Filesz
		case elf.PT_LOAD:
			if ph.Off == 0 {
				mapped = max(mapped, int64(ph.Filesz))
			}
			fallthrough
		default:
			taken(ph.Off, ph.Filesz)
		}
	}
	for i, s := range p.sections {
		if i != p.bake && hasContents(s) {
			taken(s.Off, s.Size)
		}
	}
	if newEnd > next || hasPHDR && newEnd > mapped {
		return fmt.Errorf("there is no room for another program header (%d bytes at offset %d): link it with Go's own linker", phdrSize, tableEnd)
	}
	if oldTable >= tableEnd && oldTable < next {
		p.stale = [2]int64{max(oldTable, newEnd), min(oldTableEnd, next)}
	}
	p.progs = append(p.progs, elf.Prog64{Type: uint32(ptBake), Flags: uint32(elf.PF_R), Align: Align})
	p.header.Phnum = uint16(len(p.progs))
	return nil
}

// place assigns the new offsets, for a payload of the given size.
func (p *elfPlan) place(size int64) {
	at := p.kept
	for i := range p.moved {
		m := &p.moved[i]
		s := &p.sections[m.section]
		m.to = alignUp(at, max(1, int64(s.Addralign)))
		s.Off = uint64(m.to)
		at = m.to + m.size
	}
	p.payloadOff = alignUp(at, Align)
	payload := &p.progs[len(p.progs)-1]
	payload.Off, payload.Filesz = uint64(p.payloadOff), uint64(size)
	p.sections[p.bake].Off, p.sections[p.bake].Size = uint64(p.payloadOff), uint64(size)

	names := &p.sections[p.header.Shstrndx]
	names.Off, names.Size = uint64(p.payloadOff+size), uint64(len(p.names))
	p.header.Shoff = uint64(alignUp(int64(names.Off+names.Size), 8))
	p.header.Shnum = uint16(len(p.sections))
}

// pieces returns the rewritten tables.
func (p *elfPlan) pieces() []elfPiece {
	encode := func(off uint64, v any) elfPiece {
		b, _ := binary.Append(nil, binary.LittleEndian, v) // fails for types of no fixed size only
		return elfPiece{int64(off), b}
	}
	pieces := []elfPiece{
		encode(0, p.header),
		encode(p.header.Phoff, p.progs),
		{int64(p.sections[p.header.Shstrndx].Off), p.names},
		encode(p.header.Shoff, p.sections),
	}
	if n := p.stale[1] - p.stale[0]; n > 0 {
		pieces = append(pieces, elfPiece{p.stale[0], make([]byte, n)})
	}
	return pieces
}

func copyAt(dst io.WriterAt, to int64, src io.ReaderAt, from, size int64) error {
	n, err := io.Copy(io.NewOffsetWriter(dst, to), io.NewSectionReader(src, from, size))
	if err == nil && n != size {
		err = errCut
	}
	return err
}
