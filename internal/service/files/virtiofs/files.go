//go:build linux

package virtiofs

import (
	"sync"

	"bake/internal/service/files/tree"
)

// files are what the guest has open, by the numbers that it knows them by (fh).
// How many there may be is the tree's limit.
type files struct {
	mu   sync.RWMutex
	last uint64
	byFH map[uint64]*file
}

// A file is an open file or directory.
type file struct {
	handle *tree.Handle
	number uint64 // of its node

	mu    sync.Mutex
	plain *tree.Handle // of a file that is open for appending; see random
}

func (fs *files) init() { fs.byFH = map[uint64]*file{} }

// get returns nil for a number that is not one.
func (fs *files) get(fh uint64) *file {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.byFH[fh]
}

// add takes h over and returns its number.
func (fs *files) add(h *tree.Handle, number uint64) uint64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.last++
	fs.byFH[fs.last] = &file{handle: h, number: number}
	return fs.last
}

// take removes a number; its file is the caller's to close.
func (fs *files) take(fh uint64) *file {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.byFH[fh]
	delete(fs.byFH, fh)
	return f
}

func (fs *files) reset() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for fh, f := range fs.byFH {
		f.close()
		delete(fs.byFH, fh)
	}
}

func (f *file) close() {
	f.handle.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plain != nil {
		f.plain.Close()
		f.plain = nil
	}
}

// random is a handle that writes where it is told to. What the guest's kernel
// writes of its own (a page of a mapping) comes with any handle of the file,
// also with one that appends.
func (f *file) random() (*tree.Handle, error) {
	if f.handle.Flags()&tree.OpenAppend == 0 {
		return f.handle, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plain == nil {
		h, err := f.handle.Node().Open(tree.OpenWrite)
		if err != nil {
			return nil, err
		}
		f.plain = h
	}
	return f.plain, nil
}
