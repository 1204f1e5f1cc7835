package kernel

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// ImportOptions say what to import.
type ImportOptions struct {
	// Image is the file of the kernel image: vmlinuz (bzImage, EFI zboot), vmlinux, Image, Image.gz …
	Image string
	// ModulesDir is the tree with its modules, /lib/modules/VERSION, or a directory that has it under lib/modules.
	// Empty means lib/modules beside the directory of Image (/boot/vmlinuz-X → /lib/modules/X) when it is there,
	// and no modules when not.
	ModulesDir string
	// Source says where the kernel is from, for people; empty means the image's file name.
	Source string
}

// Import takes a distribution's kernel into a store: the image unpacked to what the VMMs boot, and just the modules
// that a guest of bake needs with what they depend on, uncompressed and in load order. Importing the same kernel
// again gives the bundle that is there. The result appears in the store whole or not at all.
func Import(ctx context.Context, store Store, opt ImportOptions) (*Bundle, error) {
	b, err := importKernel(ctx, store, opt)
	if err != nil {
		return nil, fmt.Errorf("import kernel %s: %w", opt.Image, err)
	}
	return b, nil
}

func importKernel(ctx context.Context, store Store, opt ImportOptions) (*Bundle, error) {
	source := opt.Source
	if source == "" {
		source = "imported " + filepath.Base(opt.Image)
	}
	if isOurs(source) {
		return nil, errors.New(`a source that begins with "bake" is kept for kernels that bake itself compiled; call it something else`)
	}
	data, err := readRegular(opt.Image, maxImageSize)
	if err != nil {
		return nil, err
	}
	img, err := parseImage(data)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	modules, notes, err := importModules(ctx, opt, img)
	if err != nil {
		return nil, err
	}
	meta := Meta{
		Format:      Format,
		Arch:        img.arch,
		Version:     img.version,
		Source:      cleanSource(source),
		Image:       img.name(),
		ImageSHA256: sum(img.data),
		Notes:       append(img.notes(), notes...),
	}
	files := []bundleFile{{name: meta.Image, data: img.data}}
	for i, m := range modules {
		name := modulePath(i, m.name, m.feature)
		meta.Modules = append(meta.Modules, Module{Name: m.name, File: name, SHA256: sum(m.data), Feature: m.feature})
		files = append(files, bundleFile{name: name, data: m.data})
	}
	return store.add(ctx, meta, files)
}

func importModules(ctx context.Context, opt ImportOptions, img bootImage) ([]orderedModule, []string, error) {
	dir := opt.ModulesDir
	if dir == "" {
		beside := filepath.Join(filepath.Dir(filepath.Dir(opt.Image)), "lib", "modules", img.version)
		if !isModuleTree(beside) {
			return nil, []string{"imported without modules: what bake needs is taken to be built in"}, nil
		}
		dir = beside
	}
	dir, err := findModuleTree(dir, img.version)
	if err != nil {
		return nil, nil, err
	}
	tree, err := openModuleTree(dir, img.arch, img.version)
	if err != nil {
		return nil, nil, err
	}
	return resolve(ctx, tree, wants())
}

// cleanSource keeps a source to one printable line.
func cleanSource(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), 200)], "")
}
