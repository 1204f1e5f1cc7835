package volume

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// A Kind is what a volume is made of.
type Kind int

// The kinds of volumes.
const (
	// KindShare is a directory or a file of the host.
	KindShare Kind = iota
	// KindImage is a file, or a block device, with an ext4 filesystem.
	KindImage
	// KindNamed is a volume of the [Store].
	KindNamed
	// KindTmpfs is memory of the guest.
	KindTmpfs
)

// String is what a person calls it.
func (k Kind) String() string {
	switch k {
	case KindShare:
		return "share"
	case KindImage:
		return "disk image"
	case KindNamed:
		return "named volume"
	case KindTmpfs:
		return "tmpfs"
	}
	return "unknown"
}

// A Spec is one volume as the user asked for it.
type Spec struct {
	Kind Kind
	// Host is the path on the host as it was written, of a KindShare and a
	// KindImage; absolute after Resolve.
	Host string
	// Name is a KindNamed's.
	Name string
	// Target is where the container sees it: absolute and clean, not "/".
	Target string

	ReadOnly, NoSUID, NoDev, NoExec bool
	// Create makes a missing directory of the host, KindShare.
	Create bool
	// Notify tells the guest's inotify of changes on the host, KindShare.
	Notify bool
	// NoCopy leaves a new KindNamed empty, where otherwise it gets what the
	// image has at Target.
	NoCopy bool
	// Cache is how a KindShare is cached in the guest: none, mmap or loose, or
	// empty for the default.
	Cache string
	// UID and GID are the owner that all files of a KindShare show in the
	// guest, or that of a KindTmpfs's root.
	UID, GID *uint32
	// Mode is how a KindShare is served: 9p, virtiofs, or empty for the better
	// one. It is no part of the grammar but --volume-mode.
	Mode string
	// Size is a KindTmpfs's in bytes; 0 is the kernel's default, half of the
	// guest's memory.
	Size int64
	// Perm is the mode of a KindTmpfs's root, chmod(2).
	Perm uint32

	// File says, after Resolve, that a KindShare is one file.
	File bool
}

// errColons is for more parts than there can be.
const errColons = "write HOST:CONTAINER or HOST:CONTAINER:FLAGS; a path with a colon in it cannot be written here, so make a symbolic link to it and give that"

// Parse reads a -v: HOST:CONTAINER[:FLAGS] as docker-run(1) has it, FLAGS
// separated by commas. HOST without a slash is the name of a volume, unless it
// is ".", ".." or begins with "~", or FLAGS has ext4.
func Parse(s string) (Spec, error) {
	spec, err := parse(s)
	if err != nil {
		return Spec{}, fmt.Errorf("the volume %q: %w", s, err)
	}
	return spec, nil
}

func parse(s string) (Spec, error) {
	if strings.ContainsRune(s, 0) {
		return Spec{}, errors.New("it has a NUL byte, which no path can have")
	}
	parts := strings.Split(s, ":")
	if windowsPath(parts) {
		return Spec{}, errors.New("its HOST looks like a path of Windows; bake runs on Linux and macOS, where a path is written /like/this")
	}
	switch len(parts) {
	case 1:
		if strings.HasPrefix(s, "/") && printable(s) {
			return Spec{}, fmt.Errorf("it is only a path in the container: what is written there lasts as long as the container anyway; write NAME:%s to keep it, or HOST:%[1]s to share a folder", s)
		}
		return Spec{}, errors.New("write HOST:CONTAINER or HOST:CONTAINER:FLAGS, such as ./data:/data or ./data:/data:ro")
	case 2, 3:
	default:
		return Spec{}, errors.New(errColons)
	}
	if parts[0] == "" {
		return Spec{}, errors.New("the part before the first colon is empty: it is a folder or file of this host, or the name of a volume")
	}
	spec := Spec{Host: parts[0]}
	var err error
	if spec.Target, err = parseTarget(parts[1]); err != nil {
		if len(parts) == 3 && strings.HasPrefix(parts[2], "/") {
			return Spec{}, errors.New(errColons)
		}
		return Spec{}, err
	}
	flags := newFlagSet("volume")
	if len(parts) == 3 {
		if strings.HasPrefix(parts[2], "/") {
			return Spec{}, errors.New(errColons)
		}
		if parts[2] == "" {
			return Spec{}, errors.New("there is nothing after the last colon: leave it out, or write flags such as ro")
		}
		if err := flags.parse(parts[2], volumeFlags); err != nil {
			return Spec{}, err
		}
	}
	switch {
	case flags.has("ext4"):
		spec.Kind = KindImage
	case isPath(spec.Host):
		spec.Kind = KindShare
	default:
		spec.Kind, spec.Name, spec.Host = KindNamed, spec.Host, ""
		if err := CheckName(spec.Name); err != nil {
			return Spec{}, err
		}
	}
	if err := flags.apply(&spec); err != nil {
		return Spec{}, err
	}
	if spec.Notify && spec.Cache == "loose" {
		return Spec{}, errors.New("the flags notify and cache=loose say opposite things: with loose the guest never looks again at what it has seen")
	}
	return spec, nil
}

// isPath says whether the first part of a -v is a path and not a name.
func isPath(host string) bool {
	return strings.Contains(host, "/") || host == "." || host == ".." || strings.HasPrefix(host, "~")
}

// windowsPath says whether a -v begins as C:\ or C:/x:.
func windowsPath(parts []string) bool {
	if len(parts) < 2 || len(parts[0]) != 1 || !isLetter(parts[0][0]) {
		return false
	}
	return strings.HasPrefix(parts[1], `\`) || len(parts) > 2 && strings.HasPrefix(parts[1], "/") && strings.HasPrefix(parts[2], "/")
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

// maxTarget is PATH_MAX of Linux without the NUL, and maxComponent is NAME_MAX.
const (
	maxTarget    = 4095
	maxComponent = 255
)

// parseTarget checks a path in the container, and cleans it.
func parseTarget(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("the path in the container is empty: write where the container is to see it, such as /data")
	case !strings.HasPrefix(s, "/"):
		return "", fmt.Errorf("the path in the container, %q, does not begin with a slash: it is seen from the container's root", s)
	case !printable(s):
		return "", fmt.Errorf("the path in the container, %q, is not UTF-8 text without control characters", s)
	case len(s) > maxTarget:
		return "", fmt.Errorf("the path in the container has more than %d bytes", maxTarget)
	}
	target := path.Clean(s)
	if target == "/" {
		return "", errors.New("the path in the container is its root, and that is the image's: choose a folder below it")
	}
	for c := range strings.SplitSeq(target[1:], "/") {
		if len(c) > maxComponent {
			return "", fmt.Errorf("a name in the container's path has more than %d bytes", maxComponent)
		}
	}
	if target == "/proc" || strings.HasPrefix(target, "/proc/") {
		return "", errors.New("the path in the container is in /proc, which is the kernel's: choose another")
	}
	return target, nil
}

// maxName is what a volume's name may have, in bytes.
const maxName = 128

// CheckName says what is wrong with the name of a volume.
func CheckName(name string) error {
	ok := name != "" && (isLetter(name[0]) || isDigit(name[0]))
	for i := range len(name) {
		c := name[i]
		ok = ok && (isLetter(c) || isDigit(c) || c == '_' || c == '.' || c == '-')
	}
	switch {
	case !ok:
		return fmt.Errorf("%q cannot be a volume's name: that has the letters a to z and A to Z, digits, and after the first also '_', '.' and '-'; a folder of this host is written with a slash, such as ./%s", name, name)
	case len(name) > maxName:
		return fmt.Errorf("the name of the volume has %d characters, and %d is the most", len(name), maxName)
	}
	return nil
}
