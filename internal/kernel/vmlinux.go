package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// parseVmlinux checks an x86-64 vmlinux and cuts off what follows the ELF file: a relocatable kernel's bzImage
// payload has the relocation table of the decompressor there, which no VMM reads.
func parseVmlinux(data []byte) (bootImage, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return bootImage{}, fmt.Errorf("damaged vmlinux: %w", err)
	}
	switch {
	case f.Machine == elf.EM_AARCH64:
		return bootImage{}, errors.New("this is an arm64 vmlinux, which no VMM boots; use arch/arm64/boot/Image of the same build")
	case f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64:
		return bootImage{}, fmt.Errorf("this vmlinux is for %v; bake runs x86-64 and arm64 guests", f.Machine)
	case f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN:
		return bootImage{}, fmt.Errorf("this ELF file is of type %v, so it is no kernel", f.Type)
	}

	const headerSize, sectionSize = 64, 64 // Elf64_Ehdr, Elf64_Shdr
	end := uint64(headerSize)
	loads := 0
	for _, p := range f.Progs {
		if p.Filesz > uint64(len(data)) || p.Off > uint64(len(data))-p.Filesz {
			return bootImage{}, fmt.Errorf("damaged vmlinux: a segment of %d bytes at %d is not in the %d bytes of the file", p.Filesz, p.Off, len(data))
		}
		end = max(end, p.Off+p.Filesz)
		if p.Type == elf.PT_LOAD {
			loads++
		}
	}
	if loads == 0 {
		return bootImage{}, errors.New("this vmlinux has nothing to load")
	}
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
			continue
		}
		if s.FileSize > uint64(len(data)) || s.Offset > uint64(len(data))-s.FileSize {
			return bootImage{}, fmt.Errorf("damaged vmlinux: section %q is not in the file", s.Name)
		}
		end = max(end, s.Offset+s.FileSize)
	}
	// debug/elf has read both tables, so they are in the file.
	phoff, shoff := binary.LittleEndian.Uint64(data[32:]), binary.LittleEndian.Uint64(data[40:])
	const progSize = 56 // Elf64_Phdr
	end = max(end, phoff+uint64(len(f.Progs))*progSize)
	if len(f.Sections) > 0 {
		end = max(end, shoff+uint64(len(f.Sections))*sectionSize)
	}
	if end > uint64(len(data)) {
		return bootImage{}, errors.New("damaged vmlinux: its tables are not in the file")
	}
	data = data[:end:end]

	version, err := bannerVersion(data)
	if err != nil {
		return bootImage{}, err
	}
	return bootImage{arch: "amd64", version: version, data: data, pvh: hasPVH(f)}, nil
}

const (
	maxNotes         = 1 << 20
	xenPhys32Entry   = 18 // XEN_ELFNOTE_PHYS32_ENTRY, include/xen/interface/elfnote.h
	elfNoteAlignment = 4
)

// hasPVH reports whether a note gives the entry point of the PVH boot protocol
// (Xen's docs/misc/pvh.pandoc; arch/x86/platform/pvh/head.S).
func hasPVH(f *elf.File) bool {
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > maxNotes {
			continue
		}
		notes, err := io.ReadAll(p.Open())
		if err != nil {
			continue
		}
		if noteOfType(notes, "Xen", xenPhys32Entry) {
			return true
		}
	}
	return false
}

// noteOfType looks for a note of an owner and type among the notes of a segment (elf(5), "Notes (Nhdr)").
func noteOfType(notes []byte, owner string, kind uint32) bool {
	align := func(n uint64) uint64 { return (n + elfNoteAlignment - 1) &^ (elfNoteAlignment - 1) }
	for len(notes) >= 12 {
		nameSize := uint64(binary.LittleEndian.Uint32(notes))
		descSize := uint64(binary.LittleEndian.Uint32(notes[4:]))
		noteType := binary.LittleEndian.Uint32(notes[8:])
		notes = notes[12:]
		if nameSize > uint64(len(notes)) {
			return false
		}
		if noteType == kind && string(bytes.TrimRight(notes[:nameSize], "\x00")) == owner {
			return true
		}
		skip := align(nameSize) + align(descSize)
		if skip > uint64(len(notes)) {
			return false
		}
		notes = notes[skip:]
	}
	return false
}
