//go:build linux || darwin

package image

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// fileKey identifies a file without reading it.
func fileKey(path string) (string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.ErrUnsupported
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "bake file 1 %d %d %d %d %d", uint64(st.Dev), st.Ino, st.Size, fi.ModTime().UnixNano(), changeTime(st)))
	return fmt.Sprintf("file:%x", sum), nil
}
