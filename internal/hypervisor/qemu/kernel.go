//go:build linux

package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"bake/internal/hypervisor"
)

var le = binary.LittleEndian

// reader reads a resource's window.
func reader(r hypervisor.Resource) (*io.SectionReader, error) {
	offset, size, err := window(r)
	if err != nil {
		return nil, err
	}
	if r.File == nil {
		return io.NewSectionReader(bytes.NewReader(r.Bytes), 0, size), nil
	}
	return io.NewSectionReader(r.File, offset, size), nil
}

// checkKernel says how many bytes of memory the kernel takes. The error says
// why QEMU cannot boot it.
func checkKernel(arch string, kernel hypervisor.Resource) (int64, error) {
	r, err := reader(kernel)
	if err != nil {
		return 0, err
	}
	size, err := int64(0), error(nil)
	if arch == "arm64" {
		size, err = checkImage(r)
	} else {
		size, err = checkPVH(r)
	}
	if err != nil {
		return 0, fmt.Errorf("the kernel (%s) cannot be booted: %w", kernel.Name, err)
	}
	return size, nil
}

const (
	bzImage  = "it is a compressed bzImage: unpack it with `bake kernel import`"
	notPVH   = "it is no ELF vmlinux for x86-64"
	phdrSize = 56
	// maxNotes bounds the notes that are read. A kernel has some hundred bytes.
	maxNotes = 1 << 20
)

// checkPVH looks for what the PVH boot protocol needs: an ELF64 x86-64 file
// with a note that holds the 32-bit entry point (Xen's
// docs/misc/pvh.pandoc; XEN_ELFNOTE_PHYS32_ENTRY of
// include/xen/interface/elfnote.h in the kernel).
func checkPVH(r io.ReaderAt) (int64, error) {
	var h [0x206]byte
	n, err := r.ReadAt(h[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if n >= 64 && string(h[:4]) != "\x7fELF" && string(h[0x202:0x206]) == "HdrS" {
		return 0, errors.New(bzImage)
	}
	const x86, elf64, littleEndian = 62, 2, 1
	if n < 64 || string(h[:4]) != "\x7fELF" || h[4] != elf64 || h[5] != littleEndian || le.Uint16(h[18:]) != x86 {
		return 0, errors.New(notPVH)
	}
	phoff, phentsize, phnum := le.Uint64(h[32:]), le.Uint16(h[54:]), le.Uint16(h[56:])
	if phentsize != phdrSize || phnum == 0 || phnum > 128 || phoff > math.MaxInt64-phdrSize*128 {
		return 0, errors.New("its ELF program headers are broken")
	}
	table := make([]byte, int(phnum)*phdrSize)
	if _, err := r.ReadAt(table, int64(phoff)); err != nil {
		return 0, fmt.Errorf("read its ELF program headers: %w", noEOF(err))
	}
	const ptLoad, ptNote = 1, 4
	pvh, low, high := false, uint64(math.MaxUint64), uint64(0)
	for p := table; len(p) >= phdrSize; p = p[phdrSize:] {
		offset, paddr, filesz, memsz := le.Uint64(p[8:]), le.Uint64(p[24:]), le.Uint64(p[32:]), le.Uint64(p[40:])
		switch le.Uint32(p) {
		case ptLoad:
			if memsz > math.MaxInt64-paddr {
				return 0, errors.New("its ELF program headers are broken")
			}
			low, high = min(low, paddr), max(high, paddr+memsz)
		case ptNote:
			if filesz > maxNotes || offset > math.MaxInt64 {
				return 0, errors.New("its ELF notes are broken")
			}
			notes := make([]byte, filesz)
			if _, err := r.ReadAt(notes, int64(offset)); err != nil {
				return 0, fmt.Errorf("read its ELF notes: %w", noEOF(err))
			}
			pvh = pvh || hasPVHNote(notes)
		}
	}
	if low >= high {
		return 0, errors.New("its ELF file loads nothing")
	}
	if !pvh {
		return 0, errors.New("it has no PVH entry point: build it with CONFIG_PVH=y")
	}
	return int64(high - low), nil
}

// hasPVHNote walks ELF notes (elf(5)): sizes of name and descriptor, type,
// name, descriptor, each of the last two padded to 4 bytes.
func hasPVHNote(b []byte) bool {
	const physEntry32 = 18
	for len(b) >= 12 {
		name, desc, kind := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		rest := b[12:]
		padded := (name+3)&^3 + (desc+3)&^3
		if padded > uint64(len(rest)) {
			return false
		}
		if kind == physEntry32 && name == 4 && string(rest[:4]) == "Xen\x00" && (desc == 4 || desc == 8) {
			return true
		}
		b = rest[padded:]
	}
	return false
}

// checkImage looks at the header of the kernel's
// Documentation/arch/arm64/booting.rst.
func checkImage(r io.ReaderAt) (int64, error) {
	var h [64]byte
	n, err := r.ReadAt(h[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if n >= 2 && h[0] == 0x1f && h[1] == 0x8b {
		return 0, errors.New("it is compressed: unpack it with `bake kernel import`")
	}
	if n < 64 || string(h[56:60]) != "ARM\x64" {
		return 0, errors.New("it is no arm64 Image")
	}
	size := le.Uint64(h[16:])
	if size > math.MaxInt64 {
		return 0, errors.New("its Image header is broken")
	}
	return int64(size), nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
