package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	metaPrefix     = ".wh..wh." // AUFS bookkeeping, never a file of the image
)

// AddLayer applies one uncompressed tar stream on top of what the tree holds.
// name stands in error messages.
//
// If r is also an [io.ReaderAt] over the same bytes (stream offset n is file
// offset n), file contents are not copied but read from it when the tree is
// written: it must stay valid until then. If it is an [io.Seeker] too, contents
// are skipped over. Otherwise contents go to the tree's spool.
//
// r is read to its end, past the end of the archive, so that a reader which
// verifies a digest gets its say. After an error the tree is in an undefined
// state and only good for Close.
//
// Entries are taken like this:
//   - Paths are relative to the image's root, with or without a leading slash.
//     A path that climbs out with ".." is an error.
//   - Parent directories that are missing are made, root:root 0755. Parents
//     that are symbolic links are followed inside the tree.
//   - A directory over a directory updates it; anything else replaces what had
//     the name, with all beneath it.
//   - ".wh.NAME" hides NAME of lower layers, ".wh..wh..opq" all that lower
//     layers have in its directory; both wherever they stand in the layer.
//   - A hard link must name a file that is already there.
//   - trusted.overlay.* attributes are dropped: they'd be instructions to the
//     overlay that the guest puts on top.
func (t *Tree) AddLayer(ctx context.Context, name string, r io.Reader) error {
	if err := t.addLayer(ctx, r); err != nil {
		return fmt.Errorf("read layer %s: %w", name, err)
	}
	return nil
}

func (t *Tree) addLayer(ctx context.Context, r io.Reader) error {
	t.layer++
	a := applier{ctx: ctx, t: t, src: &countingReader{r: r, limit: t.opts.MaxBytes - t.bytes}}
	if ra, ok := r.(io.ReaderAt); ok {
		a.ra = ra
	}
	var tr *tar.Reader
	if sk, ok := r.(io.Seeker); ok && a.ra != nil {
		tr = tar.NewReader(&countingSeeker{countingReader: a.src, s: sk})
	} else {
		tr = tar.NewReader(a.src)
	}
	seen := 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, tar.ErrHeader) && seen == 0 {
			return errors.New("it is not a tar archive")
		}
		if err != nil {
			return fmt.Errorf("after %d entries: %w", seen, tarError(err))
		}
		seen++
		if err := a.entry(hdr, tr); err != nil {
			return fmt.Errorf("entry %s: %w", display(hdr.Name), tarError(err))
		}
	}
	if _, err := io.Copy(io.Discard, a.src); err != nil {
		return tarError(err)
	}
	t.bytes += a.src.n
	if t.spool != nil {
		return t.spool.flush()
	}
	return nil
}

// tarError words what archive/tar says.
func tarError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the archive is cut off: %w", err)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	return err
}

type applier struct {
	ctx context.Context // of this one AddLayer
	t   *Tree
	src *countingReader
	ra  io.ReaderAt

	// The directory of the entry before, since most entries share it.
	lastPath  string
	lastStack []*Inode
}

func (a *applier) entry(hdr *tar.Header, body io.Reader) error {
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader, 'V': // PAX defaults (a commit id by git), a GNU volume label
		return nil
	}
	path, err := cleanPath(hdr.Name)
	if err != nil {
		return err
	}
	if path == "" {
		if hdr.Typeflag != tar.TypeDir {
			return errors.New("the root of the image can only be a directory")
		}
		n, err := inodeOf(hdr)
		if err != nil {
			return err
		}
		a.t.root.setMeta(n)
		return nil
	}
	parentPath, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parentPath, name = path[:i], path[i+1:]
	}
	if err := checkName(name); err != nil {
		return err
	}
	if strings.HasPrefix(name, whiteoutPrefix) {
		return a.whiteout(parentPath, name)
	}
	parent, err := a.parent(parentPath)
	if err != nil {
		return err
	}
	if err := a.t.count(); err != nil {
		return err
	}
	if hdr.Typeflag == tar.TypeLink {
		return a.hardLink(parent, name, hdr.Linkname)
	}
	n, err := inodeOf(hdr)
	if err != nil {
		return err
	}
	if n.IsRegular() && n.Size > 0 {
		if err := a.content(hdr, n, body); err != nil {
			return err
		}
	}
	if n.IsDir() {
		n.children, n.opaque = map[string]dirent{}, a.t.layer
	}
	a.put(parent, name, n)
	return nil
}

// parent returns the directory at path, making what is missing of it.
func (a *applier) parent(path string) (*Inode, error) {
	if path == "" {
		return a.t.root, nil
	}
	if a.lastStack != nil && path == a.lastPath {
		return a.lastStack[len(a.lastStack)-1], nil
	}
	w := walker{t: a.t, stack: append(a.lastStack[:0], a.t.root)}
	a.lastStack = nil
	dir, err := w.walk(path, walkCreate)
	if err != nil {
		return nil, err
	}
	a.lastPath, a.lastStack = path, w.stack
	return dir, nil
}

// put binds name in dir to n.
func (a *applier) put(dir *Inode, name string, n *Inode) {
	if old, ok := dir.children[name]; ok {
		if old.node.IsDir() && n.IsDir() {
			old.node.setMeta(n)
			n = old.node
		} else {
			a.lastStack = nil // the directory remembered may be what went away
		}
	}
	dir.children[name] = dirent{n, a.t.layer}
}

func (a *applier) hardLink(parent *Inode, name, target string) error {
	path, err := cleanPath(target)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", display(target), err)
	}
	dirPath, leaf := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dirPath, leaf = path[:i], path[i+1:]
	}
	w := walker{t: a.t, stack: []*Inode{a.t.root}}
	dir, err := w.walk(dirPath, walkFollow)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", display(target), err)
	}
	n := dir.Child(leaf)
	switch {
	case n == nil:
		return fmt.Errorf("hard link to %s, which is not in the image", display(target))
	case n.IsDir():
		return fmt.Errorf("hard link to %s, which is a directory", display(target))
	}
	a.put(parent, name, n)
	return nil
}

func (a *applier) whiteout(parentPath, name string) error {
	if strings.HasPrefix(name, metaPrefix) && name != opaqueMarker {
		return nil
	}
	hidden := name[len(whiteoutPrefix):]
	if hidden == "" || hidden == "." || hidden == ".." {
		return errors.New("a whiteout that names no file")
	}
	w := walker{t: a.t, stack: []*Inode{a.t.root}}
	dir, err := w.walk(parentPath, walkFollow)
	if err != nil || !dir.IsDir() {
		return nil // nothing there to hide
	}
	a.lastStack = nil
	if name == opaqueMarker {
		dir.hideLower(a.t.layer)
		return nil
	}
	if old, ok := dir.children[hidden]; ok && old.hide(a.t.layer) {
		delete(dir.children, hidden)
	}
	return nil
}

// hide takes away what is older than layer and reports whether the entry
// itself is to go.
func (e dirent) hide(layer int32) bool {
	if e.node.IsDir() {
		e.node.hideLower(layer)
		return e.layer < layer && len(e.node.children) == 0
	}
	return e.layer < layer
}

// hideLower removes from directory n all that no entry of this layer brought.
// Since n.opaque remembers it, a directory is walked at most once a layer.
func (n *Inode) hideLower(layer int32) {
	if n.opaque == layer {
		return
	}
	n.opaque = layer
	for name, e := range n.children {
		if e.hide(layer) {
			delete(n.children, name)
		}
	}
}

// content takes the bytes of a regular file, by reference if they can be.
func (a *applier) content(hdr *tar.Header, n *Inode, body io.Reader) error {
	if n.Size > a.t.opts.MaxBytes-a.t.bytes {
		return fmt.Errorf("it claims %d bytes, more than the %d allowed", n.Size, a.t.opts.MaxBytes)
	}
	if a.ra != nil && !isSparse(hdr) {
		// archive/tar reads headers block by block and never ahead, so the
		// source now stands at the first byte of the contents.
		n.content = content{ra: a.ra, off: a.src.n}
		return nil
	}
	if isSparse(hdr) {
		// A sparse file is larger than its archive: count what it expands to.
		a.src.limit -= n.Size
		if a.src.n > a.src.limit {
			return errTooLarge(a.t.opts.MaxBytes)
		}
	}
	sp, err := a.t.openSpool()
	if err != nil {
		return err
	}
	off, err := sp.add(a.ctx, body, n.Size)
	if err != nil {
		return err
	}
	n.content = content{ra: sp, off: off}
	return nil
}

func errTooLarge(limit int64) error {
	return fmt.Errorf("the layers hold more than the %d bytes allowed", limit)
}

// countingReader knows the stream's position and ends it at limit.
type countingReader struct {
	r     io.Reader
	n     int64
	limit int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n > c.limit {
		return n, errTooLarge(c.limit)
	}
	return n, err
}

// countingSeeker lets archive/tar skip contents in a file.
type countingSeeker struct {
	*countingReader
	s io.Seeker
}

func (c *countingSeeker) Seek(offset int64, whence int) (int64, error) {
	n, err := c.s.Seek(offset, whence)
	if err == nil {
		c.n = n
		if n > c.limit {
			return n, errTooLarge(c.limit)
		}
	}
	return n, err
}
