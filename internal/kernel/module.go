package kernel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// modinfo is what a module says about itself in its .modinfo section (include/linux/module.h, MODULE_INFO).
type modinfo struct {
	name    string   // the kernel's own name for it
	version string   // the kernel release that it was built for: the first word of vermagic
	depends []string // modules whose symbols it uses
	softPre []string // modules or aliases that want to be there first; it loads without them
	aliases []string
	arch    string
}

// maxModinfo bounds the section; the largest in a distribution's tree is some 100 KB of aliases.
const maxModinfo = 4 << 20

// readModule reads the modinfo of an uncompressed module.
func readModule(data []byte) (modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return modinfo{}, fmt.Errorf("not a kernel module: %w", err)
	}
	if f.Type != elf.ET_REL {
		return modinfo{}, fmt.Errorf("not a kernel module: an ELF file of type %v", f.Type)
	}
	var info modinfo
	switch f.Machine {
	case elf.EM_X86_64:
		info.arch = "amd64"
	case elf.EM_AARCH64:
		info.arch = "arm64"
	default:
		return modinfo{}, fmt.Errorf("a kernel module for %v; bake runs x86-64 and arm64 guests", f.Machine)
	}
	s := f.Section(".modinfo")
	switch {
	case s == nil:
		return modinfo{}, errors.New("not a kernel module: it has no .modinfo section")
	case s.Type == elf.SHT_NOBITS || s.Flags&elf.SHF_COMPRESSED != 0 || s.FileSize > maxModinfo:
		return modinfo{}, errors.New("a damaged kernel module: its .modinfo section is not plain data of a sane size")
	}
	// Section.Data would believe the size before it finds out what there is.
	raw, err := io.ReadAll(io.LimitReader(s.Open(), maxModinfo))
	if err != nil {
		return modinfo{}, fmt.Errorf("read .modinfo: %w", err)
	}
	for entry := range bytes.SplitSeq(raw, []byte{0}) {
		key, value, found := strings.Cut(string(entry), "=")
		if found {
			info.add(key, value)
		}
	}
	return info, nil
}

func (i *modinfo) add(key, value string) {
	switch key {
	case "name":
		i.name = normalise(value)
	case "vermagic":
		i.version, _, _ = strings.Cut(value, " ")
	case "depends":
		for d := range strings.SplitSeq(value, ",") {
			if d = normalise(d); d != "" {
				i.depends = append(i.depends, d)
			}
		}
	case "softdep":
		i.softPre = append(i.softPre, softPre(value)...)
	case "alias":
		i.aliases = append(i.aliases, value)
	}
}

// softPre takes the names after "pre:" from a soft dependency, "pre: a b post: c" (modprobe.d(5), softdep).
func softPre(value string) []string {
	var names []string
	pre := false
	for word := range strings.FieldsSeq(value) {
		switch {
		case word == "pre:":
			pre = true
		case strings.HasSuffix(word, ":"):
			pre = false
		case pre:
			names = append(names, word)
		}
	}
	return names
}

// normalise writes a module's name as the kernel does: files and aliases use dashes and underscores alike.
func normalise(name string) string {
	return strings.ReplaceAll(strings.TrimSpace(name), "-", "_")
}
