package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
)

// openTar opens a tar file and finds out what is in it.
func (i *Image) openTar(ctx context.Context, name, ref string, opts Options, want kind) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	i.onClose(f)
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	whole := section{io.NewSectionReader(f, 0, fi.Size())}
	head := make([]byte, 8)
	if _, err := whole.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	content := whole
	compressed := compressionOf(head) != plain
	if compressed {
		// Only an archive of images is read at random; a root filesystem is
		// read once, front to back. Which it is, the first entry tells.
		likely, err := firstEntryIsOfImage(whole)
		if err != nil {
			return err
		}
		if !likely && want == kindTar {
			return i.useRootTar(name, whole)
		}
		opts.Progress("unpacking " + name)
		if content, err = i.unpack(ctx, whole, opts); err != nil {
			return err
		}
	}
	index, err := indexTar(ctx, content, want != kindTar)
	if err != nil {
		return err
	}
	if want == kindTar {
		want = index.kind()
	}
	switch want {
	case kindOCIArchive:
		if _, ok := index.files["index.json"]; !ok {
			return errors.New("there is no index.json in it, so it is no OCI archive")
		}
		return i.openLayout(ctx, index, ref, opts)
	case kindDockerArchive:
		if _, ok := index.files["manifest.json"]; !ok {
			return errors.New("there is no manifest.json in it, so it is no docker-archive")
		}
		return i.openDockerArchive(ctx, index, ref, opts)
	}
	return i.useRootTar(name, content)
}

// useRootTar makes a root filesystem's tar the only layer.
func (i *Image) useRootTar(name string, s section) error {
	i.Layers = []*Layer{{
		Name: name,
		Size: s.Size(),
		open: func(context.Context) (blob, error) {
			return section{io.NewSectionReader(s, 0, s.Size())}, nil
		},
	}}
	return nil
}

// firstEntryIsOfImage looks at the first entry of a compressed tar.
func firstEntryIsOfImage(s section) (bool, error) {
	r, err := decompress(io.NewSectionReader(s, 0, s.Size()))
	if err != nil {
		return false, err
	}
	defer r.Close()
	tr := tar.NewReader(r)
	for range 16 {
		hdr, err := tr.Next()
		switch {
		case err == io.EOF:
			return false, errEmptyTar
		case err != nil:
			return false, notTar(err)
		}
		if name := cleanName(hdr.Name); name != "" {
			return ofImage(name), nil
		}
	}
	return false, nil
}

var errEmptyTar = errors.New("the tar archive is empty; make it again, a root filesystem needs files")

func notTar(err error) error {
	if errors.Is(err, tar.ErrHeader) {
		return fmt.Errorf("%w: its contents are no tar archive", errUnknown)
	}
	return fmt.Errorf("the tar archive is damaged or cut off: %w", err)
}

var errUnknown = errors.New("it is not an image")

// unpack writes the uncompressed archive to an unlinked temporary file.
func (i *Image) unpack(ctx context.Context, s section, opts Options) (section, error) {
	r, err := decompress(&verifier{ctx: ctx, r: io.NewSectionReader(s, 0, s.Size()), left: -1})
	if err != nil {
		return section{}, err
	}
	defer r.Close()
	f, err := os.CreateTemp(opts.TempDir, "bake-archive-*")
	if err != nil {
		return section{}, fmt.Errorf("make a temporary file: %w", err)
	}
	i.onClose(f)
	if err := os.Remove(f.Name()); err != nil {
		return section{}, fmt.Errorf("make a temporary file: %w", err)
	}
	n, err := io.Copy(f, io.LimitReader(r, maxArchive+1))
	if err != nil {
		return section{}, fmt.Errorf("unpack the archive to a temporary file: %w", err)
	}
	if n > maxArchive {
		return section{}, fmt.Errorf("the archive is larger than %d bytes when unpacked", int64(maxArchive))
	}
	return section{io.NewSectionReader(f, 0, n)}, nil
}

const (
	maxArchive        = 512 << 30
	maxArchiveEntries = 1 << 16 // of an archive of images: a few for each layer
)

// tarIndex knows where the files of an archive of images are. It is a
// blobSource.
type tarIndex struct {
	src    section
	files  map[string]tarFile
	rootfs bool // an entry that no archive of images has was met
	count  int
}

type tarFile struct {
	off, size int64
	link      string // of a link: what it is for, in the archive
}

// indexTar reads the headers of an uncompressed tar. Unless all is set it stops
// at the first entry that shows the archive to be a root filesystem.
func indexTar(ctx context.Context, s section, all bool) (*tarIndex, error) {
	x := &tarIndex{src: s, files: map[string]tarFile{}}
	r := &seekCounter{r: io.NewSectionReader(s, 0, s.Size())}
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, notTar(err)
		}
		x.count++
		name := cleanName(hdr.Name)
		if name == "" || hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if !ofImage(name) && !all {
			x.rootfs = true
			return x, nil
		}
		if len(x.files) > maxArchiveEntries {
			if !all {
				x.rootfs = true
				return x, nil
			}
			return nil, fmt.Errorf("the archive has more than %d entries", maxArchiveEntries)
		}
		switch hdr.Typeflag {
		case tar.TypeReg:
			if hdr.Size > s.Size()-r.pos() {
				return nil, notTar(io.ErrUnexpectedEOF)
			}
			x.files[name] = tarFile{off: r.pos(), size: hdr.Size}
		case tar.TypeSymlink:
			x.files[name] = tarFile{link: cleanName(path.Join(path.Dir(name), hdr.Linkname))}
		case tar.TypeLink:
			x.files[name] = tarFile{link: cleanName(hdr.Linkname)}
		}
	}
	if x.count == 0 {
		return nil, errEmptyTar
	}
	return x, nil
}

func (x *tarIndex) kind() kind {
	if x.rootfs {
		return kindTar
	}
	_, layout := x.files["oci-layout"]
	_, index := x.files["index.json"]
	_, manifest := x.files["manifest.json"]
	switch {
	case layout && index: // docker save has written both forms into one since version 25
		return kindOCIArchive
	case manifest:
		return kindDockerArchive
	}
	return kindTar
}

// blob opens a file of the archive; links are followed inside it.
func (x *tarIndex) blob(name string) (section, error) {
	for range 8 {
		f, ok := x.files[name]
		if !ok {
			return section{}, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if f.link == "" {
			return section{io.NewSectionReader(x.src, f.off, f.size)}, nil
		}
		name = f.link
	}
	return section{}, fmt.Errorf("%.100q in the archive is a link that leads nowhere", name)
}

// seekCounter is a seekable reader that knows its position without a seek.
type seekCounter struct {
	r *io.SectionReader
	n int64
}

func (c *seekCounter) pos() int64 { return c.n }

func (c *seekCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *seekCounter) Seek(off int64, whence int) (int64, error) {
	n, err := c.r.Seek(off, whence)
	if err == nil {
		c.n = n
	}
	return n, err
}

// cleanName makes a relative path of an entry's name; it only ever is a key.
func cleanName(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

var imageEntry = regexp.MustCompile(`^(oci-layout|index\.json|manifest\.json|repositories|blobs|blobs/.*` +
	`|(sha256:)?[0-9a-f]{64}(\.json)?|[0-9a-f]{64}/(VERSION|json|layer\.tar)|[^/]+\.(json|tgz|tar(\.[a-z0-9]+)?))$`)

// ofImage reports whether an archive of images could have an entry called name.
func ofImage(name string) bool { return imageEntry.MatchString(name) }
