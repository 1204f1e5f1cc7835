package dns

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// settled is how old a file's time of change must be for a later change to
// show: filesystems count time in steps, of two seconds at the coarsest.
const settled = 2 * time.Second

// A follower holds what a file says, and reads it again when its inode, size or
// time of change is another. Symbolic links are followed every time.
type follower[T any] struct {
	path  string
	limit int64
	parse func([]byte) T
	now   func() time.Time

	mu    sync.Mutex
	info  fs.FileInfo // nil: read it next time
	text  []byte
	value T
}

// newFollower reads the file; one that is not there is as an empty one.
func newFollower[T any](path string, limit int64, parse func([]byte) T) *follower[T] {
	f := &follower[T]{path: path, limit: limit, parse: parse, now: time.Now, value: parse(nil)}
	f.get()
	return f
}

// get returns what the file says now, and whether that is news. A file that is
// not there, or empty, is one that somebody is writing: what it said still
// holds.
func (f *follower[T]) get() (value T, changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil || !info.Mode().IsRegular() {
		f.info = nil
		return f.value, false
	}
	if f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() && f.info.ModTime().Equal(info.ModTime()) {
		return f.value, false
	}
	text, info, err := f.read()
	if err != nil || len(text) == 0 {
		f.info = nil
		return f.value, false
	}
	f.info = info
	if age := f.now().Sub(info.ModTime()); age < settled && age > -settled {
		f.info = nil
	}
	if bytes.Equal(text, f.text) {
		return f.value, false
	}
	f.text, f.value = text, f.parse(text)
	return f.value, true
}

// read returns the file's first lines, up to the limit.
func (f *follower[T]) read() ([]byte, fs.FileInfo, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, f.limit))
	if int64(len(text)) == f.limit {
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	return text, info, err
}
