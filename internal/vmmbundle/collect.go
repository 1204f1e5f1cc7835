package vmmbundle

import (
	"archive/tar"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say what to collect.
type Options struct {
	Arch string // GOARCH of the machine that the bundle is for
	QEMU string // path of the emulator; empty: qemu-system-* from PATH, or from /usr/bin when Root is set
	Root string // directory that holds that machine's files; empty: this machine's
}

// Collect writes a bundle to w and returns its index. The emulator's libraries are those that its dynamic
// loader would find; nothing is run. The same files give the same bytes.
func Collect(ctx context.Context, o Options, w io.Writer) (*Index, error) {
	arch, err := newArchitecture(o.Arch)
	if err != nil {
		return nil, err
	}
	c := &collector{arch: arch, tree: tree{cmp.Or(o.Root, "/")}, sources: make(map[string]string)}
	entry, err := c.emulator(o)
	if err != nil {
		return nil, err
	}
	index := &Index{Format: indexVersion, Arch: o.Arch}
	if err := c.collect(ctx, entry, index); err != nil {
		return nil, fmt.Errorf("embed %s: %w", entry, err)
	}
	if err := c.write(ctx, index, w); err != nil {
		return nil, fmt.Errorf("embed %s: %w", entry, err)
	}
	return index, nil
}

type collector struct {
	tree
	arch    architecture
	sources map[string]string // name in the bundle → path in the tree
}

// emulator returns the path of QEMU in the tree.
func (c *collector) emulator(o Options) (string, error) {
	if o.QEMU != "" {
		if o.Root != "" {
			return o.QEMU, nil
		}
		return filepath.Abs(o.QEMU)
	}
	name := "qemu-system-" + c.arch.name
	if o.Root != "" {
		return "/usr/bin/" + name, nil
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("there is no %s on PATH to embed: apt-get install qemu-system, or name one", name)
	}
	return filepath.Abs(p)
}

// collect fills sources and index.
func (c *collector) collect(ctx context.Context, entry string, index *Index) error {
	program, err := c.readObject(entry, nil)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("there is no such file")
	}
	if err != nil {
		return err
	}
	if program.machine != c.arch.machine || program.class != elf.ELFCLASS64 {
		return fmt.Errorf("it runs on %v machines, the app is for %v: build the app on such a machine, or give the root directory of one", program.machine, c.arch.machine)
	}
	real, err := c.resolve(entry)
	if err != nil {
		return err
	}
	if index.Version, err = c.qemuVersion(entry); err != nil {
		return err
	}
	index.Entry = "bin/qemu-system-" + c.arch.name
	c.sources[index.Entry] = entry

	objects := []*object{program}
	prefix := path.Dir(path.Dir(real))
	module, err := c.find(c.moduleCandidates(prefix))
	switch {
	case err == nil:
		o, err := c.readObject(module, program)
		if err != nil {
			return err
		}
		c.sources[path.Join(moduleDir, path.Base(module))] = module
		objects = append(objects, o)
	case !errors.Is(err, os.ErrNotExist): // without it TCG is part of the program
		return err
	}
	if err := c.firmware(prefix); err != nil {
		return err
	}

	l, err := newLinker(c.tree, c.arch)
	if err != nil {
		return err
	}
	libs, err := l.libraries(ctx, objects)
	if err != nil {
		return err
	}
	for name, p := range libs {
		c.sources[path.Join(libDir, name)] = p
	}
	if program.interp != "" {
		index.Loader = path.Join(libDir, path.Base(program.interp))
		c.sources[index.Loader] = program.interp
	}
	return c.stat(index)
}

// moduleCandidates says where the emulator below prefix may have its TCG module, which Debian and others split
// off.
func (c *collector) moduleCandidates(prefix string) (paths []string) {
	for _, dir := range []string{"lib/" + c.arch.triplet, "lib64", "lib"} {
		paths = append(paths, path.Join(prefix, dir, "qemu", "accel-tcg-"+c.arch.name+".so"))
	}
	return paths
}

// firmware adds what the architecture's machines start with.
func (c *collector) firmware(prefix string) error {
	var dirs []string
	for _, base := range []string{path.Join(prefix, "share"), "/usr/share"} {
		for _, dir := range []string{"qemu", "seabios", "qemu-firmware", "qboot"} {
			dirs = append(dirs, path.Join(base, dir))
		}
	}
	for _, fw := range c.arch.firmware {
		var candidates []string
		for _, dir := range dirs {
			candidates = append(candidates, path.Join(dir, fw.name))
		}
		p, err := c.find(candidates)
		switch {
		case err == nil:
			c.sources[path.Join(dataDir, fw.name)] = p
		case !errors.Is(err, os.ErrNotExist):
			return err
		case fw.required:
			return fmt.Errorf("its firmware %s is not in any of %s: apt-get install qemu-system-data seabios", fw.name, strings.Join(dirs, ", "))
		}
	}
	return nil
}

// stat lists the files, sorted by name.
func (c *collector) stat(index *Index) error {
	for name, p := range c.sources {
		f, err := c.open(p)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		f.Close()
		if err != nil {
			return err
		}
		executable := name == index.Entry || name == index.Loader
		index.Files = append(index.Files, File{name, info.Size(), executable})
	}
	slices.SortFunc(index.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// write writes the archive.
func (c *collector) write(ctx context.Context, index *Index, w io.Writer) error {
	b, err := index.encode()
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	if err := tw.WriteHeader(header(File{Name: indexName, Size: int64(len(b))})); err != nil {
		return err
	}
	if _, err := tw.Write(b); err != nil {
		return err
	}
	for _, f := range index.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.writeFile(tw, f); err != nil {
			return fmt.Errorf("%s: %w", c.sources[f.Name], err)
		}
	}
	return tw.Close()
}

func (c *collector) writeFile(tw *tar.Writer, f File) error {
	src, err := c.open(c.sources[f.Name])
	if err != nil {
		return err
	}
	defer src.Close()
	if err := tw.WriteHeader(header(f)); err != nil {
		return err
	}
	if n, err := io.Copy(tw, io.LimitReader(src, f.Size)); err != nil {
		return err
	} else if n != f.Size {
		return fmt.Errorf("it shrank from %d to %d bytes meanwhile", f.Size, n)
	}
	return nil
}

// header leaves out who the file belonged to and when it changed.
func header(f File) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Size: f.Size, Mode: int64(f.mode()), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
}

func (f File) mode() os.FileMode {
	if f.Executable {
		return 0o755
	}
	return 0o644
}
