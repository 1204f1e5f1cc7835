package kernel

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Format is the version of bundle.json that this package reads and writes.
const Format = 1

// MetaName is the file of a bundle directory that describes the others.
const MetaName = "bundle.json"

const (
	maxMetaSize  = 1 << 20   // bytes of bundle.json
	maxModules   = 512       // modules of a bundle
	maxImageSize = 256 << 20 // bytes of an uncompressed kernel image; a distribution's is under 80 MB
	maxModSize   = 64 << 20  // bytes of an uncompressed module
)

// Meta is bundle.json: what the bundle holds.
type Meta struct {
	// Format is the version of this description; see [Format].
	Format int `json:"format"`
	// Arch is the guest's architecture in Go's words: amd64 or arm64.
	Arch string `json:"arch"`
	// Version is what uname -r says in the guest, "6.12.117-bake".
	Version string `json:"version"`
	// Source says where the kernel is from, for people. It starts with "bake" when kernel/build.sh compiled it.
	Source string `json:"source"`
	// Image is the file of the kernel image, relative to the bundle, with forward slashes.
	Image string `json:"image"`
	// ImageSHA256 is the lower-case hexadecimal SHA-256 of the image.
	ImageSHA256 string `json:"image_sha256"`
	// Modules are in load order: one after all that it depends on.
	Modules []Module `json:"modules,omitempty"`
	// Notes say what a guest on this kernel will not have, one sentence each.
	Notes []string `json:"notes,omitempty"`
}

// Module is one kernel module of a bundle.
type Module struct {
	// Name is the kernel's own name for it, with underscores ("virtio_blk").
	Name string `json:"name"`
	// File is the uncompressed .ko, relative to the bundle, with forward slashes.
	File string `json:"file"`
	// SHA256 is the lower-case hexadecimal SHA-256 of the file.
	SHA256 string `json:"sha256"`
	// Feature is empty for a module that every guest loads when it boots. Others are loaded only by a guest that is
	// told to use the feature: "wireguard".
	Feature string `json:"feature,omitempty"`
}

// Bundle is an opened kernel bundle: a directory, or an image in memory.
// It holds no open file and is safe for concurrent use.
type Bundle struct {
	Meta
	// Dir is the bundle's directory; empty for a bundle in memory.
	Dir string

	image    []byte // the image of a bundle in memory
	modified time.Time
}

// ID names the bundle by its content: the base name of its directory in a store, and the start of the image's
// hash for a bundle in memory.
func (b *Bundle) ID() string {
	if b.Dir != "" {
		return filepath.Base(b.Dir)
	}
	return b.ImageSHA256[:min(32, len(b.ImageSHA256))]
}

// Ours reports whether kernel/build.sh compiled this kernel.
func (b *Bundle) Ours() bool { return isOurs(b.Source) }

func isOurs(source string) bool { return strings.HasPrefix(source, "bake") }

// OpenImage opens the kernel image and says its size in bytes. The caller closes it.
func (b *Bundle) OpenImage() (io.ReadSeekCloser, int64, error) {
	if b.Dir == "" {
		return nopCloser{bytes.NewReader(b.image)}, int64(len(b.image)), nil
	}
	return b.open(b.Image, maxImageSize)
}

// OpenModule opens module i of [Meta].Modules and says its size in bytes. The caller closes it.
func (b *Bundle) OpenModule(i int) (io.ReadSeekCloser, int64, error) {
	if i < 0 || i >= len(b.Modules) {
		return nil, 0, fmt.Errorf("kernel %s has no module %d: it has %d", b.Version, i, len(b.Modules))
	}
	return b.open(b.Modules[i].File, maxModSize)
}

// ModulePath is where the initrd carries module i: "modules/007-virtio_blk.ko", without a leading slash, and
// "modules/wireguard/030-wireguard.ko" when it has a feature. The agent loads what it finds in /modules in lexical order,
// which is the load order, and the modules of a feature when it is asked for it.
func (b *Bundle) ModulePath(i int) string {
	return modulePath(i, b.Modules[i].Name, b.Modules[i].Feature)
}

func modulePath(i int, name, feature string) string {
	return path.Join("modules", feature, fmt.Sprintf("%03d-%s.ko", i, name))
}

// Size is the number of bytes of the image and all modules together.
func (b *Bundle) Size() (int64, error) {
	if b.Dir == "" {
		return int64(len(b.image)), nil
	}
	var total int64
	for _, name := range b.files() {
		info, err := os.Stat(b.path(name))
		if err != nil {
			return 0, fmt.Errorf("kernel bundle %s is not complete: %w", b.Dir, err)
		}
		total += info.Size()
	}
	return total, nil
}

// Verify reads the image and every module and compares their hashes with bundle.json. A bundle in memory was hashed
// from the bytes that it holds and always agrees.
func (b *Bundle) Verify() error {
	var problems []error
	if err := b.verifyImage(); err != nil {
		problems = append(problems, err)
	}
	for i, m := range b.Modules {
		r, _, err := b.OpenModule(i)
		if err == nil {
			err = b.verify(r, m.File, m.SHA256)
		}
		if err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func (b *Bundle) verifyImage() error {
	r, _, err := b.OpenImage()
	if err != nil {
		return err
	}
	return b.verify(r, b.Image, b.ImageSHA256)
}

func (b *Bundle) verify(r io.ReadCloser, name, want string) error {
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return fmt.Errorf("read %s of kernel bundle %s: %w", name, b.where(), err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("kernel bundle %s: %s was altered or is damaged: its SHA-256 is %s and %s says %s; remove the bundle and build or import it again",
			b.where(), name, got, MetaName, want)
	}
	return nil
}

func (b *Bundle) where() string {
	if b.Dir != "" {
		return b.Dir
	}
	return "in memory"
}

func (b *Bundle) path(name string) string { return filepath.Join(b.Dir, filepath.FromSlash(name)) }

func (b *Bundle) files() []string {
	names := []string{b.Image}
	for _, m := range b.Modules {
		names = append(names, m.File)
	}
	return names
}

func (b *Bundle) open(name string, limit int64) (io.ReadSeekCloser, int64, error) {
	f, size, err := openRegular(b.path(name), limit)
	if err != nil {
		return nil, 0, fmt.Errorf("kernel bundle %s: %w", b.Dir, err)
	}
	return f, size, nil
}

// openRegular opens a file that must be regular and not larger than limit bytes.
func openRegular(name string, limit int64) (*os.File, int64, error) {
	// A name pipe would block in open; nothing but a regular file is worth opening.
	info, err := os.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", name)
	}
	if info.Size() > limit {
		return nil, 0, fmt.Errorf("%s is %d bytes long; more than %d cannot be right", name, info.Size(), limit)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// readRegular reads a regular file of at most limit bytes.
func readRegular(name string, limit int64) ([]byte, error) {
	f, size, err := openRegular(name, limit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

var (
	moduleName = regexp.MustCompile(`^[A-Za-z0-9_]{1,56}$`) // MODULE_NAME_LEN, include/linux/moduleparam.h
	featureRE  = regexp.MustCompile(`^[a-z0-9]{0,20}$`)
	versionRE  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}$`)
	sha256RE   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// parseMeta decodes and checks bundle.json. A Meta that it returns names no file outside the bundle.
func parseMeta(data []byte) (Meta, error) {
	var m Meta
	if err := json.Unmarshal(data, &m); err != nil {
		return Meta{}, fmt.Errorf("%s is not valid JSON: %w", MetaName, err)
	}
	return m, m.validate()
}

func (m Meta) validate() error {
	if m.Format != Format {
		return fmt.Errorf("%s has format %d and this bake reads format %d; build or import the kernel again", MetaName, m.Format, Format)
	}
	if m.Arch != "amd64" && m.Arch != "arm64" {
		return fmt.Errorf("%s is for architecture %q; bake runs amd64 and arm64 guests", MetaName, m.Arch)
	}
	if !versionRE.MatchString(m.Version) {
		return fmt.Errorf("%s has the kernel version %q, which is none", MetaName, m.Version)
	}
	if len(m.Modules) > maxModules {
		return fmt.Errorf("%s lists %d modules; more than %d cannot be right", MetaName, len(m.Modules), maxModules)
	}
	if err := checkEntry(m.Image, m.ImageSHA256); err != nil {
		return err
	}
	for _, mod := range m.Modules {
		if !moduleName.MatchString(mod.Name) {
			return fmt.Errorf("%s lists a module called %q, which is no module name", MetaName, mod.Name)
		}
		if !featureRE.MatchString(mod.Feature) {
			return fmt.Errorf("%s lists the module %s for a feature called %q, which is no name of one", MetaName, mod.Name, mod.Feature)
		}
		if err := checkEntry(mod.File, mod.SHA256); err != nil {
			return err
		}
	}
	return nil
}

func checkEntry(file, sum string) error {
	if file == "" || path.Clean(file) != file || strings.Contains(file, `\`) || !filepath.IsLocal(filepath.FromSlash(file)) {
		return fmt.Errorf("%s names the file %q, which is not inside the bundle", MetaName, file)
	}
	if !sha256RE.MatchString(sum) {
		return fmt.Errorf("%s has %q as the SHA-256 of %s", MetaName, sum, file)
	}
	return nil
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }
