package rootfs

import (
	"fmt"
	"io"
	"os"
	"path"
)

// opener gives access to contents. For a directory source it keeps the
// directory of the last file open, since files come directory by directory.
type opener struct {
	src     *dirSource
	dirPath string
	dir     *os.Root
	file    *os.File
}

// open returns where the contents of n are. The result is valid until the next
// open or close.
func (o *opener) open(n *Inode) (io.ReaderAt, int64, error) {
	if n.content.dir == nil {
		if n.content.ra == nil {
			return eofReaderAt{}, 0, nil
		}
		return n.content.ra, n.content.off, nil
	}
	o.closeFile()
	dirPath, name := path.Split(n.content.path)
	if o.dir == nil || o.src != n.content.dir || o.dirPath != dirPath {
		o.closeDir()
		sub := path.Clean(dirPath)
		dir, err := n.content.dir.root.OpenRoot(sub)
		if err != nil {
			return nil, 0, n.content.dir.fault(sub, err)
		}
		o.src, o.dirPath, o.dir = n.content.dir, dirPath, dir
	}
	f, err := openRegular(o.dir, name)
	if err != nil {
		return nil, 0, n.content.dir.fault(n.content.path, err)
	}
	o.file = f
	return changed{f, n.content.dir, n.content.path}, 0, nil
}

func (o *opener) close() error {
	err := o.closeFile()
	o.closeDir()
	return err
}

func (o *opener) closeFile() error {
	if o.file == nil {
		return nil
	}
	err := o.file.Close()
	o.file = nil
	return err
}

func (o *opener) closeDir() {
	if o.dir != nil {
		o.dir.Close()
		o.dir = nil
	}
}

// changed reads a file of a directory source and words its early end.
type changed struct {
	f    *os.File
	src  *dirSource
	path string
}

func (c changed) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.f.ReadAt(p, off)
	if err == io.EOF && n < len(p) {
		return n, fmt.Errorf("pack %s: the file became shorter while it was read; stop what writes to it and try again",
			c.src.join(c.path))
	}
	if err != nil && err != io.EOF {
		return n, c.src.fault(c.path, err)
	}
	return n, nil
}

type eofReaderAt struct{}

func (eofReaderAt) ReadAt(p []byte, _ int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return 0, io.EOF
}
