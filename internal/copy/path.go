package copy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A Location is one side of a copy.
type Location struct {
	// Remote says that it is in a container, and Instance in which: a name, or
	// nothing for the only one.
	Remote   bool
	Instance string
	// Path is as it was given: its end has a meaning. "-" of the host is a stream.
	Path string
}

// ParseLocation reads [NAME:]PATH. A path of the host that has a colon has to begin
// with a slash or a dot, as for docker cp.
func ParseLocation(arg string) (Location, error) {
	if arg == "" {
		return Location{}, errors.New("one of the two paths is empty")
	}
	name, file, colon := strings.Cut(arg, ":")
	if !colon || arg[0] == '/' || arg[0] == '.' || strings.Contains(name, "/") {
		return Location{Path: arg}, nil
	}
	if strings.IndexByte(file, 0) >= 0 {
		return Location{}, fmt.Errorf("no file can be called %q", file)
	}
	if file == "" {
		return Location{}, fmt.Errorf("%q names no path in the container: / is its root, as in %s/", arg, arg)
	}
	return Location{Remote: true, Instance: name, Path: file}, nil
}

// A shape is what decides how a copy goes, of either side.
type shape struct {
	exists, dir bool
	path        string
}

// contents says whether a path asks for what is in a directory and not for the
// directory.
func contents(name string) bool { return name == "." || strings.HasSuffix(name, "/.") }

// saysDir says whether a path means a directory.
func saysDir(name string) bool { return strings.HasSuffix(name, "/") || contents(name) }

// place is where the files of a copy go: the archive's first part, whose name is
// base, becomes name in the directory dir, which exists or is missed by who unpacks.
// With an empty name the files of "." go right into dir.
type place struct{ dir, name string }

// placeOf is docker cp's table. src is a directory or not; base is what its archive
// calls it.
func placeOf(srcDir bool, base string, dst shape) (place, error) {
	clean := path.Clean(dst.path)
	switch {
	case dst.exists && dst.dir && base == ".":
		return place{dir: dst.path}, nil
	case dst.exists && dst.dir:
		return place{dir: dst.path, name: base}, nil
	case dst.exists && srcDir:
		return place{}, fmt.Errorf("cannot copy a directory to a file: %s is one", dst.path)
	case dst.exists && saysDir(dst.path):
		return place{}, fmt.Errorf("%s is not a directory", dst.path)
	case !dst.exists && !srcDir && saysDir(dst.path):
		return place{}, fmt.Errorf("the directory %s does not exist, and only copying a directory makes one", dst.path)
	}
	return place{dir: path.Dir(clean), name: path.Base(clean)}, nil
}

// maxLinks bounds how many symbolic links are followed, as Linux does.
const maxLinks = 40

// localShape follows a destination's symbolic links to their end, so that what is
// there, or would be, is what is written.
func localShape(name string) (shape, error) {
	s := shape{path: name}
	for range maxLinks {
		st, err := os.Lstat(s.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			parent := filepath.Dir(filepath.Clean(s.path))
			if st, err := os.Stat(parent); err != nil || !st.IsDir() {
				return s, fmt.Errorf("the directory %s, in which %s would be, does not exist", parent, filepath.Base(s.path))
			}
			return s, nil
		case err != nil:
			return s, fmt.Errorf("look at where the copy goes: %w", err)
		case st.Mode()&fs.ModeSymlink == 0:
			s.exists, s.dir = true, st.IsDir()
			if !s.dir && !st.Mode().IsRegular() {
				return s, fmt.Errorf("%s is neither a file nor a directory, and is not replaced", s.path)
			}
			return s, nil
		}
		target, err := os.Readlink(s.path)
		if err != nil {
			return s, fmt.Errorf("look at where the copy goes: %w", err)
		}
		s.path = follow(s.path, target)
	}
	return s, fmt.Errorf("%s leads through too many symbolic links", name)
}

// follow is the path to which a symbolic link leads. What a path says at its end
// stays so.
func follow(link, target string) string {
	if !path.IsAbs(target) {
		// Dir would take ".." away, which after a link is another directory.
		dir := strings.TrimRight(link, "/")
		target = dir[:strings.LastIndexByte(dir, '/')+1] + target
	}
	return target
}
