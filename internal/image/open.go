package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Open opens source. What source is, is found out like this:
//
//	docker://REF            an image in a registry
//	docker-archive:PATH[:REF]  a tar of "docker save"; REF picks one of several
//	oci:PATH[:REF]          a directory with an OCI image layout
//	oci-archive:PATH[:REF]  a tar of one
//	dir:PATH                a directory that is the root filesystem
//
// and without such a prefix by looking: a directory is an OCI layout if it has
// a file oci-layout, else a root filesystem; a file is an EROFS, squashfs or
// ext4 image by its superblock, or a tar (plain, gzip, zstd, bzip2, xz), which
// is an OCI layout if oci-layout and index.json are in it, a docker-archive if
// manifest.json is, else a root filesystem. What is no file is an image in a
// registry.
//
// ctx also bounds what the image's layers download later. Errors are one
// sentence that says what was tried and what to do.
func Open(ctx context.Context, source string, opts Options) (*Image, error) {
	opts.defaults()
	switch opts.Arch {
	case "amd64", "arm64":
	default:
		return nil, fmt.Errorf("open image %q: bake makes apps for amd64 and arm64, not for %q; pass one of them with --arch", source, opts.Arch)
	}
	img := &Image{}
	if err := img.open(ctx, source, opts); err != nil {
		img.Close()
		return nil, fmt.Errorf("open image %q: %w", source, err)
	}
	return img, nil
}

func (i *Image) open(ctx context.Context, source string, opts Options) error {
	if source == "" {
		return errors.New("no source is given; name an image such as docker.io/library/alpine, a tar or a directory")
	}
	if ref, ok := strings.CutPrefix(source, "docker://"); ok {
		return i.openRemote(ctx, ref, opts, false)
	}
	if kind, path, ok := strings.Cut(source, ":"); ok {
		switch kind {
		case "docker-archive":
			return i.openPrefixed(ctx, path, opts, kindDockerArchive)
		case "oci":
			return i.openPrefixed(ctx, path, opts, kindOCIDir)
		case "oci-archive":
			return i.openPrefixed(ctx, path, opts, kindOCIArchive)
		case "dir":
			return i.openPrefixed(ctx, path, opts, kindDir)
		}
	}
	kind, err := sniff(source)
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) {
		err = fs.ErrNotExist // a reference may begin like a file's path
	}
	switch {
	case err == nil:
		return i.openLocal(ctx, source, "", opts, kind)
	case errors.Is(err, fs.ErrNotExist) && looksLikePath(source):
		return errors.New("there is no such file or directory")
	case errors.Is(err, fs.ErrNotExist):
		return i.openRemote(ctx, source, opts, true)
	}
	return err
}

// looksLikePath reports whether source can't have been meant as a reference.
func looksLikePath(source string) bool {
	if filepath.IsAbs(source) || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../") ||
		strings.HasPrefix(source, "~") || strings.HasSuffix(source, "/") || source == "." || source == ".." {
		return true
	}
	for _, ext := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".erofs", ".squashfs", ".sqfs", ".ext4", ".img"} {
		if strings.HasSuffix(source, ext) {
			return true
		}
	}
	return false
}

// openPrefixed opens a path whose kind was given, with a reference behind a
// colon perhaps. A path that exists as it stands wins.
func (i *Image) openPrefixed(ctx context.Context, path string, opts Options, want kind) error {
	ref := ""
	if _, err := os.Stat(path); err != nil && want != kindDir {
		// The first colon behind which the rest is no file; a tag has one more.
		for at := range path {
			if path[at] != ':' {
				continue
			}
			if _, err := os.Stat(path[:at]); err == nil {
				path, ref = path[:at], path[at+1:]
				break
			}
		}
	}
	got, err := sniff(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: there is no such file or directory", path)
	}
	if err != nil {
		return err
	}
	switch {
	case want == kindDir && (got == kindDir || got == kindOCIDir):
		got = kindDir
	case want == kindOCIDir && got != kindOCIDir:
		return fmt.Errorf("%s is %s, not a directory with an OCI layout (it would have a file oci-layout)", path, got)
	case want == kindDir:
		return fmt.Errorf("%s is %s, not a directory", path, got)
	case (want == kindDockerArchive || want == kindOCIArchive) && got != kindTar:
		return fmt.Errorf("%s is %s, not a tar archive", path, got)
	case want == kindDockerArchive || want == kindOCIArchive:
		got = want
	}
	return i.openLocal(ctx, path, ref, opts, got)
}

func (i *Image) openLocal(ctx context.Context, path, ref string, opts Options, k kind) error {
	i.Ref, i.path, i.Arch = path, path, opts.Arch
	switch k {
	case kindDir:
		i.Dir, i.path = path, ""
		return nil
	case kindEROFS, kindSquashFS, kindExt4:
		i.Ready = &Ready{Type: k.fsType(), Path: path}
		return nil
	case kindOCIDir:
		return i.openLayout(ctx, &dirBlobs{img: i, dir: path}, ref, opts)
	}
	return i.openTar(ctx, path, ref, opts, k)
}
