package platform

import (
	"fmt"
	"io"
	"os"
)

// fill copies exactly size bytes of r into f and rewinds it.
func fill(f *os.File, name string, r io.Reader, size int64) error {
	if size < 0 {
		return fmt.Errorf("the size of the %s is negative: %d", name, size)
	}
	n, err := io.Copy(f, io.LimitReader(r, size))
	if err != nil {
		return fmt.Errorf("copy the %s into a memory file: %w", name, err)
	}
	if n != size {
		return fmt.Errorf("copy the %s into a memory file: it ends after %d of %d bytes: %w", name, n, size, io.ErrUnexpectedEOF)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rewind the memory file of the %s: %w", name, err)
	}
	return nil
}
