package rootfs

import (
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

// Bounds on a tree. They are far above any real image and low enough that a
// hostile one can't exhaust memory or disk.
const (
	maxName    = 255      // bytes in one name: NAME_MAX, also the limit of EROFS and squashfs
	maxPath    = 4095     // bytes in a path or a symlink's target: PATH_MAX less its NUL
	maxDepth   = 2048     // directories above a file: a path of maxPath bytes can't name deeper
	maxLinks   = 40       // symbolic links followed on the way: MAXSYMLINKS of Linux
	maxEntries = 4 << 20  // entries over all layers
	maxXattrs  = 64 << 10 // bytes of names and values on one file: XATTR_LIST_MAX, XATTR_SIZE_MAX

	defaultMaxBytes = 512 << 30
)

// Options of a new tree. The zero value is usable.
type Options struct {
	// TempDir is where file contents of compressed layers are spooled, in one
	// file that is unlinked at once; "" is the system's. It needs as much room
	// as the layers have uncompressed.
	TempDir string
	// MaxBytes bounds the uncompressed bytes of all layers together;
	// 0 is 512 GiB.
	MaxBytes int64
	// Warn, if set, is told in one sentence of each thing left out on purpose.
	Warn func(string)
}

// Tree is the merged view of the layers applied so far. It is not safe for
// concurrent use, and one writer at a time may read it.
type Tree struct {
	opts    Options
	root    *Inode
	layer   int32 // of the layer being applied; the first is 1
	entries int
	bytes   int64 // read from layers so far
	spool   *spool
	closers []io.Closer
}

// NewTree returns a tree that holds an empty root directory.
func NewTree(opts Options) *Tree {
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = defaultMaxBytes
	}
	if opts.TempDir == "" {
		opts.TempDir = os.TempDir()
	}
	if opts.Warn == nil {
		opts.Warn = func(string) {}
	}
	return &Tree{opts: opts, root: newDir(0)}
}

// Root returns the root directory.
func (t *Tree) Root() *Inode { return t.root }

// Close frees the spool and closes what AddDir opened. Readers given to
// AddLayer stay the caller's.
func (t *Tree) Close() error {
	var first error
	for _, c := range t.closers {
		if err := c.Close(); err != nil && first == nil {
			first = err
		}
	}
	t.closers, t.spool = nil, nil
	return first
}

// Names returns the names in directory n, sorted by byte value.
func (n *Inode) Names() []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Child returns the file called name in directory n, or nil.
func (n *Inode) Child(name string) *Inode { return n.children[name].node }

// Lookup finds the file at path in the tree, following symbolic links inside
// the tree as a process confined to it would. The error says which component
// is missing and wraps [os.ErrNotExist] when that is all that is wrong.
func (t *Tree) Lookup(path string) (*Inode, error) {
	w := walker{t: t, stack: []*Inode{t.root}}
	n, err := w.walk(path, walkFollow)
	if err != nil {
		return nil, fmt.Errorf("look up %q in the image: %w", path, err)
	}
	return n, nil
}

// Open returns the contents of the regular file n, which must be of this tree.
// The reader is valid until Close of the tree.
func (t *Tree) Open(n *Inode) (io.ReadCloser, error) {
	if !n.IsRegular() {
		return nil, fmt.Errorf("not a regular file")
	}
	o := opener{}
	ra, off, err := o.open(n)
	if err != nil {
		o.close()
		return nil, err
	}
	return &fileReader{SectionReader: io.NewSectionReader(ra, off, n.Size), opener: &o}, nil
}

type fileReader struct {
	*io.SectionReader
	opener *opener
}

func (f *fileReader) Close() error { return f.opener.close() }

// index numbers every inode once, counts links, and returns the inodes in the
// order that the writers lay them out: the root, then for each directory its
// files together, then its subdirectories, names by byte value. The order
// depends on the tree alone, so the images do too.
func (t *Tree) index() []*Inode {
	list := make([]*Inode, 0, 1024)
	seen := make(map[*Inode]struct{})
	add := func(n *Inode) {
		n.num, n.nlink = uint32(len(list)), 0
		list = append(list, n)
	}
	add(t.root)
	t.root.nlink, t.root.parent = 2, t.root
	var visit func(dir *Inode)
	visit = func(dir *Inode) {
		names := dir.Names()
		for _, name := range names {
			n := dir.children[name].node
			switch {
			case n.IsDir():
				add(n)
				n.nlink, n.parent = 2, dir
				dir.nlink++
			default:
				if _, ok := seen[n]; !ok {
					seen[n] = struct{}{}
					add(n)
				}
				n.nlink++
			}
		}
		for _, name := range names {
			if n := dir.children[name].node; n.IsDir() {
				visit(n)
			}
		}
	}
	visit(t.root)
	return list
}

// display shortens and quotes a path from a layer for an error message, so
// that neither control characters nor length trouble a terminal.
func display(path string) string {
	if len(path) > 120 {
		path = path[:60] + "..." + path[len(path)-40:]
	}
	return fmt.Sprintf("%q", strings.ToValidUTF8(path, "?"))
}
