package vmmbundle

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
)

const maxPath = 4096

// An object is what an ELF file says about loading it.
type object struct {
	path    string // in the tree, as it was found
	parent  *object
	machine elf.Machine
	class   elf.Class
	interp  string   // the dynamic loader; empty for libraries and static programs
	needed  []string // names of libraries
	rpath   []string // DT_RPATH, unexpanded
	runpath []string // DT_RUNPATH, unexpanded
}

// readObject reads the ELF file p of the tree.
func (t tree) readObject(p string, parent *object) (*object, error) {
	file, err := t.open(p)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	f, err := elf.NewFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s is not an ELF file: %w", p, err)
	}
	o := &object{path: p, parent: parent, machine: f.Machine, class: f.Class}
	for _, prog := range f.Progs {
		if prog.Type != elf.PT_INTERP {
			continue
		}
		if prog.Filesz > maxPath {
			return nil, fmt.Errorf("%s names a dynamic loader in %d bytes", p, prog.Filesz)
		}
		b, err := io.ReadAll(prog.Open())
		if err != nil {
			return nil, fmt.Errorf("%s: read the name of its dynamic loader: %w", p, err)
		}
		o.interp = string(bytes.TrimRight(b, "\x00"))
	}
	for _, list := range []struct {
		tag  elf.DynTag
		into *[]string
	}{{elf.DT_NEEDED, &o.needed}, {elf.DT_RPATH, &o.rpath}, {elf.DT_RUNPATH, &o.runpath}} {
		// A static program has no dynamic section, which is no error here.
		if *list.into, err = f.DynString(list.tag); err != nil {
			return nil, fmt.Errorf("%s: read %v: %w", p, list.tag, err)
		}
	}
	return o, nil
}

// qemuVersion finds the version in the program's constant data, where it stands within the text of --version, so
// that a program for another architecture can be asked too.
func (t tree) qemuVersion(p string) (string, error) {
	file, err := t.open(p)
	if err != nil {
		return "", err
	}
	defer file.Close()
	f, err := elf.NewFile(file)
	if err != nil {
		return "", fmt.Errorf("%s is not an ELF file: %w", p, err)
	}
	const maxData, maxVersion = 256 << 20, 200
	s := f.Section(".rodata")
	if s == nil || s.Size > maxData {
		return "", fmt.Errorf("%s does not look like QEMU: no constant data in it", p)
	}
	data, err := s.Data()
	if err != nil {
		return "", fmt.Errorf("%s: read its constant data: %w", p, err)
	}
	_, rest, found := bytes.Cut(data, []byte("QEMU emulator version "))
	version, _, ended := bytes.Cut(rest[:min(len(rest), maxVersion)], []byte{'\n'})
	if !found || !ended {
		return "", fmt.Errorf("%s does not look like QEMU: no version in it", p)
	}
	return string(version), nil
}
