package vmmbundle

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// A tree is a file system below a directory, "/" or the root of another machine's. Paths in it are absolute,
// slash-separated, and symbolic links mean what they would mean on that machine.
type tree struct{ root string }

// maxLinks is how many symbolic links a path may lead through, as in Linux (include/linux/namei.h, MAXSYMLINKS).
const maxLinks = 40

// resolve follows every link of p and returns the real path of what it names, still within the tree.
func (t tree) resolve(p string) (string, error) {
	done, rest := "/", strings.TrimPrefix(path.Clean("/"+p), "/")
	for links := 0; rest != ""; {
		var element string
		element, rest, _ = strings.Cut(rest, "/")
		next := path.Join(done, element)
		info, err := os.Lstat(t.host(next))
		if err != nil {
			return "", err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many symbolic links", p)
		}
		target, err := os.Readlink(t.host(next))
		if err != nil {
			return "", err
		}
		if !path.IsAbs(target) {
			target = path.Join(done, target)
		}
		done, rest = "/", strings.TrimPrefix(path.Join(target, rest), "/")
	}
	return done, nil
}

// host returns where a real path of the tree is on this machine.
func (t tree) host(p string) string { return filepath.Join(t.root, filepath.FromSlash(p)) }

// open opens the regular file that p names.
func (t tree) open(p string) (*os.File, error) {
	real, err := t.resolve(p)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(t.host(real))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", p)
	}
	return os.Open(t.host(real))
}

// find returns the first of the candidates that is a regular file.
func (t tree) find(candidates []string) (string, error) {
	for _, p := range candidates {
		f, err := t.open(p)
		if err == nil {
			f.Close()
			return p, nil
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return "", err
		}
	}
	return "", os.ErrNotExist
}
