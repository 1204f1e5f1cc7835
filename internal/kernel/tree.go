package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// moduleTree is a directory as /lib/modules/VERSION: module files by name, and the names that are built in.
// It does not need depmod's index, which is made when a package is installed and not there when it is unpacked.
type moduleTree struct {
	dir     string
	version string // the release that every module must be for; empty when the image is of unknown version
	arch    string
	files   map[string]string // name → path
	builtin map[string]bool
	loaded  map[string]*treeModule
}

// treeModule is a module that was read.
type treeModule struct {
	modinfo
	data []byte // uncompressed, with its signature
}

var errNoModule = errors.New("there is no such module")

// findModuleTree locates the modules of a kernel release: dir is the tree itself, or holds it as VERSION,
// lib/modules/VERSION or usr/lib/modules/VERSION, as a package does that was unpacked.
func findModuleTree(dir, version string) (string, error) {
	for _, sub := range []string{"", version, "lib/modules/" + version, "usr/lib/modules/" + version} {
		tree := filepath.Join(dir, filepath.FromSlash(sub))
		if isModuleTree(tree) {
			return tree, nil
		}
	}
	return "", fmt.Errorf("%s has no modules of Linux %s: looked for a directory with modules.builtin or kernel/ in it there and in %s, lib/modules/%s and usr/lib/modules/%s",
		dir, version, version, version, version)
}

func isModuleTree(dir string) bool {
	for _, name := range []string{"modules.builtin", "kernel"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

func openModuleTree(dir, arch, version string) (*moduleTree, error) {
	t := &moduleTree{dir: dir, arch: arch, version: version, files: map[string]string{}, builtin: map[string]bool{}, loaded: map[string]*treeModule{}}
	if err := t.readBuiltin(); err != nil {
		return nil, err
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		t.addFile(name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the modules in %s: %w", dir, err)
	}
	return t, nil
}

// addFile notes a module file. Of two with one name, that under updates/ counts, as for depmod.
func (t *moduleTree) addFile(file string) {
	name, ok := moduleFileName(filepath.Base(file))
	if !ok {
		return
	}
	updates := filepath.Join(t.dir, "updates") + string(filepath.Separator)
	if _, there := t.files[name]; there && !strings.HasPrefix(file, updates) {
		return
	}
	t.files[name] = file
}

// moduleFileName is the name of the module in a file called base: virtio-rng.ko.xz → virtio_rng.
func moduleFileName(base string) (string, bool) {
	for _, suffix := range []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"} {
		if stem, ok := strings.CutSuffix(base, suffix); ok {
			name := normalise(stem)
			return name, moduleName.MatchString(name)
		}
	}
	return "", false
}

// readBuiltin reads modules.builtin: one path a line, kernel/fs/ext4/ext4.ko (Documentation/kbuild/kbuild.rst).
func (t *moduleTree) readBuiltin() error {
	data, err := readRegular(filepath.Join(t.dir, "modules.builtin"), maxMetaSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read which modules are built in: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if name, ok := moduleFileName(path.Base(lines.Text())); ok {
			t.builtin[name] = true
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read which modules are built in: %w", err)
	}
	return nil
}

// load reads a module of the tree once. The error is errNoModule when it is not there.
func (t *moduleTree) load(name string) (*treeModule, error) {
	if m := t.loaded[name]; m != nil {
		return m, nil
	}
	file, ok := t.files[name]
	if !ok {
		return nil, errNoModule
	}
	data, err := readRegular(file, maxModSize)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", name, err)
	}
	// What the file holds counts, not what it is called.
	if format := detectCompression(data); format != "" {
		if data, err = decompress(format, data, maxModSize); err != nil {
			return nil, fmt.Errorf("unpack module %s: %w", file, err)
		}
	}
	info, err := readModule(data)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", file, err)
	}
	if info.arch != t.arch {
		return nil, fmt.Errorf("module %s is for %s and the kernel for %s; give the modules of the same package", file, info.arch, t.arch)
	}
	if info.version != t.version {
		return nil, fmt.Errorf("module %s is for Linux %s and the kernel is %s; give the modules of the same package", file, info.version, t.version)
	}
	m := &treeModule{modinfo: info, data: data}
	t.loaded[name] = m
	return m, nil
}
