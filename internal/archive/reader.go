package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// A Reader reads an archive, whose first entry can be seen before it is unpacked.
type Reader struct {
	in    *bufio.Reader
	tr    *tar.Reader
	first *tar.Header
	err   error
}

// NewReader reads an archive of r.
func NewReader(r io.Reader) *Reader {
	in := bufio.NewReaderSize(r, 64<<10)
	return &Reader{in: in, tr: tar.NewReader(in)}
}

// FirstIsDir says whether the archive begins with a directory. The error is io.EOF,
// bare, if there is nothing in it.
func (r *Reader) FirstIsDir() (bool, error) {
	if r.first == nil && r.err == nil {
		r.first, r.err = r.next()
	}
	return r.err == nil && r.first.Typeflag == tar.TypeDir, r.err
}

func (r *Reader) next() (*tar.Header, error) {
	if hdr := r.first; hdr != nil {
		r.first = nil
		return hdr, nil
	}
	if r.err != nil {
		return nil, r.err
	}
	for {
		hdr, err := r.tr.Next()
		switch {
		case err == io.EOF:
			return nil, err
		case err != nil:
			return nil, damaged(err)
		case hdr.Typeflag != tar.TypeXGlobalHeader:
			return hdr, nil
		}
	}
}

// drain reads what follows the archive, which is padding, so that whoever writes
// it comes to an end.
func (r *Reader) drain() error {
	_, err := io.Copy(io.Discard, r.in)
	return err
}

func damaged(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the archive ends in the middle of a file")
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("this is no tar archive, or it is damaged: %w", err)
	}
	return fmt.Errorf("read the archive: %w", err)
}

// cleanName is a name of an archive without what means nothing in it: leading and
// doubled slashes, "." and a slash at the end. The top is ".".
func cleanName(name string) (string, error) {
	if len(name) > nameLimit {
		return "", fmt.Errorf("the archive has a name of %d bytes, %.64q...: that is too long", len(name), name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("the archive has the name %q, which leads out of where it is unpacked", name)
		}
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("the archive has the name %q, which no file can have", name)
	}
	if name = path.Clean("/" + name)[1:]; name == "" {
		name = "."
	}
	return name, nil
}
