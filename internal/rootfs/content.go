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
	h := n.content.host
	if h == nil {
		if n.content.ra == nil {
			return eofReaderAt{}, 0, nil
		}
		return n.content.ra, n.content.off, nil
	}
	o.closeFile()
	dirPath, name := path.Split(h.path)
	if o.dir == nil || o.src != h.dir || o.dirPath != dirPath {
		o.closeDir()
		sub := path.Clean(dirPath)
		dir, err := h.dir.root.OpenRoot(sub)
		if err != nil {
			return nil, 0, h.dir.fault(sub, err)
		}
		o.src, o.dirPath, o.dir = h.dir, dirPath, dir
	}
	f, err := openRegular(o.dir, name)
	if err != nil {
		return nil, 0, h.dir.fault(h.path, err)
	}
	o.file = f
	return changed{f, h}, 0, nil
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
	host *hostFile
}

func (c changed) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.f.ReadAt(p, off)
	if err == io.EOF && n < len(p) {
		return n, fmt.Errorf("pack %s: the file became shorter while it was read; stop what writes to it and try again",
			c.host.dir.join(c.host.path))
	}
	if err != nil && err != io.EOF {
		return n, c.host.dir.fault(c.host.path, err)
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
