package volume

import (
	"errors"
	"fmt"
	"strings"
)

// ParseTmpfs reads a --tmpfs: PATH[:OPTIONS] as docker-run(1) has it, with
// OPTIONS of mount(8) for tmpfs, or PATH:SIZE. As with docker, nothing in it
// can be executed, and neither suid nor devices count, unless OPTIONS say so.
func ParseTmpfs(s string) (Spec, error) {
	spec, err := parseTmpfs(s)
	if err != nil {
		return Spec{}, fmt.Errorf("the tmpfs %q: %w", s, err)
	}
	return spec, nil
}

func parseTmpfs(s string) (Spec, error) {
	target, options, hasOptions := strings.Cut(s, ":")
	spec := Spec{Kind: KindTmpfs, NoSUID: true, NoDev: true, NoExec: true, Perm: 0o1777}
	var err error
	if spec.Target, err = parseTarget(target); err != nil {
		return Spec{}, err
	}
	switch {
	case !hasOptions:
		return spec, nil
	case options == "":
		return Spec{}, errors.New("there is nothing after the colon: leave it out, or write a size such as 64m")
	case strings.Contains(options, ":"):
		return Spec{}, errors.New("it has more than one colon: write PATH:SIZE or PATH:OPTIONS, such as /tmp:64m or /tmp:size=64m,mode=1777")
	case isDigit(options[0]):
		if isDigit(options[len(options)-1]) {
			return Spec{}, fmt.Errorf("the size %s has no unit: write %[1]sm for MiB or %[1]sg for GiB", options)
		}
		spec.Size, err = parseTmpfsSize(options)
		return spec, err
	}
	flags := newFlagSet("tmpfs")
	if err := flags.parse(options, tmpfsFlags); err != nil {
		return Spec{}, err
	}
	if err := flags.apply(&spec); err != nil {
		return Spec{}, err
	}
	return spec, nil
}

// minTmpfs is one page: the kernel takes 0 for no limit at all, and rounds up.
const minTmpfs = 4096

// parseTmpfsSize reads what tmpfs(5) takes for size, in bytes.
func parseTmpfsSize(v string) (int64, error) {
	if strings.HasSuffix(v, "%") {
		if v == "50%" {
			return 0, nil // the kernel's default
		}
		return 0, fmt.Errorf("size=%s: a part of the guest's memory cannot be asked for, other than the default of 50%%; write a size such as 64m", v)
	}
	size, err := parseBytes(v, 1)
	if err != nil {
		return 0, err
	}
	if size < minTmpfs {
		return 0, fmt.Errorf("the size %s is less than a page of memory (%d bytes): write 64m for 64 MiB", v, minTmpfs)
	}
	return size, nil
}
