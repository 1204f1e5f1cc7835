package platform

import (
	"fmt"
	"io"
	"os"
)

// MemoryFile returns a read-only file that holds exactly size bytes of r,
// positioned at its start. macOS has no memory files that a path leads to, so
// it is a file in dir, which must be private; File.Name is its path. It lives
// as long as dir.
func MemoryFile(dir, name string, r io.Reader, size int64) (*os.File, error) {
	w, err := os.CreateTemp(dir, name+"-*")
	if err != nil {
		return nil, fmt.Errorf("make a file for the %s: %w", name, err)
	}
	defer w.Close()
	f, err := func() (*os.File, error) {
		if err := fill(w, name, r, size); err != nil {
			return nil, err
		}
		if err := w.Chmod(0o400); err != nil {
			return nil, fmt.Errorf("make the file of the %s read-only: %w", name, err)
		}
		return os.Open(w.Name())
	}()
	if err != nil {
		os.Remove(w.Name())
		return nil, err
	}
	return f, nil
}
