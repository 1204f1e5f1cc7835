package platform

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A CancelReader reads a file that may be a terminal, a pipe, a regular file
// or /dev/null, and can be told to stop while it waits. os.File cannot: its
// deadlines need a file in non-blocking mode, and changing the mode of an
// inherited standard stream changes it for whoever shares it.
type CancelReader struct {
	fd         int
	wake       [2]*os.File
	cancelOnce sync.Once
}

// NewCancelReader reads f, which stays the caller's to close.
func NewCancelReader(f *os.File) (*CancelReader, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("prepare to read %s: %w", f.Name(), err)
	}
	return &CancelReader{fd: int(f.Fd()), wake: [2]*os.File{r, w}}, nil
}

// Read waits with poll(2) and reads with read(2). A cancelled reader is at its
// end.
func (r *CancelReader) Read(p []byte) (int, error) {
	fds := []unix.PollFd{
		{Fd: int32(r.fd), Events: unix.POLLIN},
		{Fd: int32(r.wake[0].Fd()), Events: unix.POLLIN},
	}
	for {
		if _, err := unix.Poll(fds, -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			return 0, fmt.Errorf("wait for input: %w", err)
		}
		if fds[1].Revents != 0 {
			return 0, io.EOF
		}
		n, err := unix.Read(r.fd, p)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err == unix.EIO:
			// The terminal hung up, or we are in its background.
			return 0, io.EOF
		case err != nil:
			return 0, fmt.Errorf("read input: %w", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Cancel ends a Read that waits, and every later one. It may be called at any
// time before Close, from any goroutine, more than once.
func (r *CancelReader) Cancel() {
	r.cancelOnce.Do(func() { r.wake[1].Write([]byte{0}) })
}

// Close ends a reader of which no Read is under way.
func (r *CancelReader) Close() {
	r.wake[0].Close()
	r.wake[1].Close()
}
