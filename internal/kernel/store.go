package kernel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Store is a directory of kernel bundles, one directory each, named by hash.
// Several processes may use one at the same time: a bundle appears by a rename and is never changed.
type Store struct {
	// Root is the directory; it need not exist.
	Root string
}

// DefaultStore is the user's: kernel in bake's cache directory, where kernel/build.sh leaves its results too.
func DefaultStore() (Store, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Store{}, fmt.Errorf("find the kernel store: %w", err)
	}
	return Store{Root: filepath.Join(cache, "bake", "kernel")}, nil
}

// List opens all bundles, ours first and then newest first. The error joins those of bundles that cannot be opened;
// the others are returned with it.
func (s Store) List() ([]*Bundle, error) {
	entries, err := os.ReadDir(s.Root)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("list kernels: %w", err)
	}
	var bundles []*Bundle
	var problems []error
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue // logs, locks and what is being made
		}
		b, err := openDir(filepath.Join(s.Root, e.Name()))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		bundles = append(bundles, b)
	}
	slices.SortStableFunc(bundles, preferred)
	return bundles, errors.Join(problems...)
}

// preferred orders our kernels before imported ones, newer before older, and by ID where that is equal.
func preferred(a, b *Bundle) int {
	if a.Ours() != b.Ours() {
		if a.Ours() {
			return -1
		}
		return 1
	}
	if c := b.modified.Compare(a.modified); c != 0 {
		return c
	}
	return cmp.Compare(a.ID(), b.ID())
}

// ErrNoKernel is what [Store.Find] wraps when the store has no kernel for the architecture.
var ErrNoKernel = errors.New("no guest kernel")

// Find is the kernel to use for an architecture (amd64 or arm64): ours before an imported one, the newest of several.
func (s Store) Find(arch string) (*Bundle, error) {
	bundles, err := s.List()
	for _, b := range bundles {
		if b.Arch == arch {
			return b, nil
		}
	}
	missing := fmt.Errorf("%w for %s in %s: compile bake's own with 'make kernel-%s' in its source tree, or take your distribution's with 'bake kernel import VMLINUZ --modules DIR'",
		ErrNoKernel, arch, s.Root, arch)
	if err != nil {
		return nil, fmt.Errorf("%w (and what is there is damaged: %w)", missing, err)
	}
	return nil, missing
}

type bundleFile struct {
	name string // with forward slashes
	data []byte
}

const importPrefix = ".import-"

// add writes a bundle. Its name is the hash of its description, which has the hashes of all files in it.
func (s Store) add(ctx context.Context, meta Meta, files []bundleFile) (*Bundle, error) {
	if err := meta.validate(); err != nil {
		return nil, err
	}
	description, err := json.MarshalIndent(meta, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", MetaName, err)
	}
	description = append(description, '\n')
	if len(description) > maxMetaSize {
		return nil, fmt.Errorf("%s would have %d bytes; at most %d are allowed", MetaName, len(description), maxMetaSize)
	}
	hash := sha256.Sum256(description)
	final := filepath.Join(s.Root, hex.EncodeToString(hash[:16]))
	if b, err := openDir(final); err == nil && b.Verify() == nil {
		return b, nil
	}

	if err := os.MkdirAll(s.Root, 0o755); err != nil {
		return nil, fmt.Errorf("make the kernel store: %w", err)
	}
	s.sweep()
	work, err := os.MkdirTemp(s.Root, importPrefix)
	if err != nil {
		return nil, fmt.Errorf("make room in the kernel store: %w", err)
	}
	defer os.RemoveAll(work)
	// MkdirTemp is private; the store is as readable as its parent.
	if err := os.Chmod(work, 0o755); err != nil {
		return nil, fmt.Errorf("make room in the kernel store: %w", err)
	}
	for _, f := range append(files, bundleFile{name: MetaName, data: description}) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := writeSynced(filepath.Join(work, filepath.FromSlash(f.name)), f.data); err != nil {
			return nil, fmt.Errorf("write into the kernel store: %w", err)
		}
	}
	if err := publish(work, final); err != nil {
		return nil, err
	}
	return openDir(final)
}

// publish renames work to final. When another process was first, its bundle is the same one and stays; a damaged one
// goes.
func publish(work, final string) error {
	err := os.Rename(work, final)
	if err == nil {
		return nil
	}
	if b, openErr := openDir(final); openErr == nil && b.Verify() == nil {
		return nil
	}
	damaged := work + ".damaged"
	if moveErr := os.Rename(final, damaged); moveErr != nil {
		return fmt.Errorf("put the bundle into the kernel store: %w", err)
	}
	defer os.RemoveAll(damaged)
	if err := os.Rename(work, final); err != nil {
		return fmt.Errorf("put the bundle into the kernel store: %w", err)
	}
	return nil
}

// sweep removes what killed imports left behind a day ago or longer.
func (s Store) sweep() {
	left, err := filepath.Glob(filepath.Join(s.Root, importPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			os.RemoveAll(dir)
		}
	}
}

func writeSynced(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
