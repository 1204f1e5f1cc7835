package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Open opens the kernel at path: a bundle directory, or a bare kernel image, which becomes a bundle in memory without
// modules. An image may be a vmlinux, a bzImage, an arm64 Image, an EFI zboot image, or one of these compressed.
//
// A directory's bundle.json is checked; the hashes of its files are not, which is what [Bundle.Verify] is for.
func Open(path string) (*Bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open kernel: %w", err)
	}
	if info.IsDir() {
		return openDir(path)
	}
	data, err := readRegular(path, maxImageSize)
	if err != nil {
		return nil, fmt.Errorf("open kernel: %w", err)
	}
	img, err := parseImage(data)
	if err != nil {
		return nil, fmt.Errorf("open kernel %s: %w", path, err)
	}
	return &Bundle{
		Meta: Meta{
			Format:      Format,
			Arch:        img.arch,
			Version:     img.version,
			Source:      "file " + filepath.Base(path),
			Image:       img.name(),
			ImageSHA256: sum(img.data),
			Notes:       img.notes(),
		},
		image:    img.data,
		modified: info.ModTime(),
	}, nil
}

func openDir(dir string) (*Bundle, error) {
	name := filepath.Join(dir, MetaName)
	data, err := readRegular(name, maxMetaSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a kernel bundle: it has no %s", dir, MetaName)
	}
	if err != nil {
		return nil, fmt.Errorf("open kernel bundle %s: %w", dir, err)
	}
	meta, err := parseMeta(data)
	if err != nil {
		return nil, fmt.Errorf("open kernel bundle %s: %w", dir, err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("open kernel bundle %s: %w", dir, err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open kernel bundle %s: %w", dir, err)
	}
	return &Bundle{Meta: meta, Dir: abs, modified: info.ModTime()}, nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
