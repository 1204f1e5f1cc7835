package tree

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// ReadVector is [Handle.ReadAt] into several buffers, one after the other; no
// more than 1024 (IOV_MAX). It may use up to.
func (h *Handle) ReadVector(to [][]byte, off int64) (int, error) {
	return h.vector(to, off, OpenRead, unix.Preadv)
}

// WriteVector is [Handle.WriteAt] from several buffers; see ReadVector.
func (h *Handle) WriteVector(from [][]byte, off int64) (int, error) {
	return h.vector(from, off, OpenWrite, unix.Pwritev)
}

func (h *Handle) vector(b [][]byte, off int64, access OpenFlags, transfer func(int, [][]byte, int64) (int, error)) (n int, err error) {
	if err := h.enter(unix.S_IFREG, access); err != nil {
		return 0, err
	}
	defer h.release()
	if off < 0 {
		return 0, syscall.EINVAL
	}
	for len(b) > 0 {
		k, err := transfer(h.fd, b, off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil && n == 0 {
			return 0, errno(err)
		}
		if err != nil || k <= 0 {
			break
		}
		n += k
		for len(b) > 0 && k >= len(b[0]) {
			k -= len(b[0])
			b = b[1:]
		}
		if k > 0 {
			b[0] = b[0][k:]
		}
	}
	return n, nil
}
