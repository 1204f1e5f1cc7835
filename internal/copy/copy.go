package copy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/archive"
	"bake/internal/wire"
)

// Options are those of docker-cp(1).
type Options struct {
	// FollowLink copies what a symbolic link at the source leads to.
	FollowLink bool
	// Owners keeps numeric owners, on the host if we are root. Otherwise what is
	// copied into a container belongs to root, and what comes out to us.
	Owners bool
	// Warn is told what was left out and why; nil is nobody.
	Warn func(string)
	// Copied is told how many bytes of an archive have passed; nil is nobody.
	Copied func(n int)
}

func (o *Options) warn(s string) {
	if o.Warn != nil {
		o.Warn(s)
	}
}

func (o *Options) warnError(err error) { o.warn(err.Error()) }

// errDone ends a pipe whose reader has had what it wants.
var errDone = errors.New("the copy is over")

// From copies src of the container to dst of this host.
func From(ctx context.Context, r Remote, src, dst string, o Options) error {
	to, err := localShape(dst)
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	remote := make(chan error, 1)
	go func() {
		err := Read(ctx, r, src, pw, o)
		pw.CloseWithError(err) // nil is io.EOF
		remote <- err
	}()
	err = unpack(ctx, pr, src, to, o)
	pr.CloseWithError(errDone)
	if failed := <-remote; failed != nil && !errors.Is(failed, errDone) {
		return failed
	}
	return err
}

// unpack makes the files of an archive of src.
func unpack(ctx context.Context, in io.Reader, src string, to shape, o Options) error {
	reader := archive.NewReader(in)
	dir, err := reader.FirstIsDir()
	if err == io.EOF {
		return errors.New("the container sent nothing")
	}
	if err != nil {
		return err
	}
	base := wire.ArchiveBase(src)
	at, err := placeOf(dir, base, to)
	if err != nil {
		return err
	}
	return archive.Unpack(ctx, reader, at.dir, archive.UnpackOptions{
		Base: base, Name: at.name, Owners: o.Owners, Untrusted: true, Warn: o.warnError,
	})
}

// Read writes src of the container to out as a tar stream.
func Read(ctx context.Context, r Remote, src string, out io.Writer, o Options) error {
	nothing := io.NopCloser(strings.NewReader(""))
	return r(ctx, wire.ArchiveRequest{
		Op: wire.ArchivePack, Path: src, FollowLink: o.FollowLink || strings.HasSuffix(src, "/"),
	}, nothing, counter{out, o.Copied}, o.warn)
}

// To copies src of this host to dst of the container.
func To(ctx context.Context, r Remote, src, dst string, o Options) error {
	follow := o.FollowLink || strings.HasSuffix(src, "/")
	look := os.Lstat
	if follow {
		look = os.Stat
	}
	st, err := look(src)
	if err != nil {
		return fmt.Errorf("look at what to copy: %w", err)
	}
	base, err := localBase(src)
	if err != nil {
		return err
	}
	to, err := r.stat(ctx, dst)
	if err != nil {
		return err
	}
	at, err := placeOf(st.IsDir(), base, to)
	if err != nil {
		return err
	}
	name := at.name
	if name == "" {
		name = "."
	}
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := archive.Pack(ctx, counter{pw, o.Copied}, src, archive.PackOptions{Name: name, FollowLink: follow, Warn: o.warnError})
		var incomplete *archive.IncompleteError
		if errors.As(err, &incomplete) {
			pw.Close() // what there is of it is an archive
		} else {
			pw.CloseWithError(err)
		}
		packed <- err
	}()
	err = r(ctx, wire.ArchiveRequest{Op: wire.ArchiveUnpack, Path: at.dir, Owners: o.Owners}, pr, io.Discard, o.warn)
	pr.CloseWithError(errDone)
	if failed := <-packed; err == nil {
		err = failed
	}
	return err
}

// localBase is what the archive of a path of this host calls it, as
// wire.ArchiveBase has it for the container.
func localBase(name string) (string, error) {
	if contents(name) {
		return ".", nil
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return wire.ArchiveBase(abs), nil
}

// Write unpacks the tar stream in into the directory dst of the container.
func Write(ctx context.Context, r Remote, in io.ReadCloser, dst string, o Options) error {
	to, err := r.stat(ctx, dst)
	if err != nil {
		in.Close()
		return err
	}
	if !to.exists || !to.dir {
		in.Close()
		return fmt.Errorf("%s has to be a directory of the container: the files of a stream are unpacked into it", dst)
	}
	source := struct {
		io.Reader
		io.Closer
	}{io.TeeReader(in, counter{io.Discard, o.Copied}), in}
	return r(ctx, wire.ArchiveRequest{Op: wire.ArchiveUnpack, Path: to.path, Owners: o.Owners}, source, io.Discard, o.warn)
}

// A counter tells how much passes.
type counter struct {
	io.Writer
	told func(int)
}

func (c counter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	if c.told != nil {
		c.told(n)
	}
	return n, err
}
