package vmmbundle

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// maxLibraries bounds the search; QEMU needs some sixty.
const maxLibraries = 1024

// A linker finds shared libraries where the dynamic loader of the tree would (ld.so(8)), but for what its
// environment and the processor at hand would change.
type linker struct {
	tree
	arch  architecture
	cache map[string][]string
}

func newLinker(t tree, arch architecture) (*linker, error) {
	l := &linker{tree: t, arch: arch}
	f, err := t.open(ldCachePath)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil // musl, or a tree where ldconfig did not run
	}
	if err != nil {
		return nil, fmt.Errorf("read the cache of libraries: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLDCache+1))
	if err == nil && len(b) > maxLDCache {
		err = fmt.Errorf("it is longer than %d bytes", maxLDCache)
	}
	if err == nil {
		l.cache, err = parseLDCache(b)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cache of libraries, %s (ldconfig makes it anew): %w", ldCachePath, err)
	}
	return l, nil
}

// libraries returns every library that the objects need, directly or not, by name, with its path in the tree. The
// dynamic loader is among them if one of them asks for it.
func (l *linker) libraries(ctx context.Context, objects []*object) (map[string]string, error) {
	libs := make(map[string]string)
	for queue := objects; len(queue) > 0; queue = queue[1:] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, name := range queue[0].needed {
			if _, ok := libs[name]; ok {
				continue
			}
			if len(libs) == maxLibraries {
				return nil, fmt.Errorf("%s needs more than %d libraries", objects[0].path, maxLibraries)
			}
			o, err := l.library(name, queue[0])
			if err != nil {
				return nil, err
			}
			libs[name] = o.path
			queue = append(queue, o)
		}
	}
	return libs, nil
}

// library finds the library that by asks for as name.
func (l *linker) library(name string, by *object) (*object, error) {
	if name == "" || name != path.Base(name) || name == "." || name == ".." {
		return nil, fmt.Errorf("%s needs a library by the path %q, which would not exist elsewhere", by.path, name)
	}
	for _, p := range l.candidates(name, by) {
		o, err := l.readObject(p, by)
		// Like the loader, go on if it is for another machine or not to be used at all.
		if err == nil && o.machine == l.arch.machine && o.class == elf.ELFCLASS64 {
			return o, nil
		}
	}
	return nil, fmt.Errorf("%s needs the library %s, which is not installed: find its package with apt-file search %s", by.path, name, name)
}

// candidates lists the paths to try, in the order of ld.so(8).
func (l *linker) candidates(name string, by *object) (paths []string) {
	add := func(dirs []string, o *object) {
		for _, list := range dirs {
			for dir := range strings.SplitSeq(list, ":") {
				for _, dir := range l.expand(dir, o) {
					paths = append(paths, path.Join(dir, name))
				}
			}
		}
	}
	if len(by.runpath) == 0 {
		for o := by; o != nil; o = o.parent {
			if len(o.runpath) == 0 {
				add(o.rpath, o)
			}
		}
	}
	add(by.runpath, by)
	paths = append(paths, l.cache[name]...)
	for _, dir := range l.arch.libDirs {
		paths = append(paths, path.Join(dir, name))
	}
	return paths
}

// expand replaces the tokens of ld.so(8) in a directory from an object. What the loader would take as relative
// to the working directory is left out.
func (l *linker) expand(dir string, o *object) []string {
	real, err := l.resolve(o.path)
	if err != nil {
		return nil
	}
	replace := func(dir, token, value string) string {
		return strings.ReplaceAll(strings.ReplaceAll(dir, "${"+token+"}", value), "$"+token, value)
	}
	dir = replace(dir, "ORIGIN", path.Dir(real))
	dir = replace(dir, "PLATFORM", l.arch.name)
	if !path.IsAbs(dir) {
		return nil
	}
	if other := replace(dir, "LIB", ""); other == dir {
		return []string{dir}
	}
	// $LIB is what the distribution chose.
	return []string{replace(dir, "LIB", "lib/"+l.arch.triplet), replace(dir, "LIB", "lib64"), replace(dir, "LIB", "lib")}
}
