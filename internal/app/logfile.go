package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"sync"

	"bake/internal/instance"
)

// logLimit bounds each of the two files of a log, in bytes. They are where the
// sockets are, which is memory (tmpfs) on most systems.
const logLimit = 8 << 20

// A logFile takes the output of a detached app, byte by byte as the container
// writes it, and keeps the last of it. It is safe for concurrent use.
type logFile struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

func newLogFile(path string) (*logFile, error) {
	l := &logFile{path: path, limit: logLimit}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("make the log: %w", err)
	}
	return l, nil
}

// open begins a file, which this process's own crash goes to as well.
func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.file, l.size = f, 0
	return debug.SetCrashOutput(f, debug.CrashOptions{})
}

// Write never fails: a full disk is no reason to end a container, so what does
// not fit is lost.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		if l.size >= l.limit {
			if err := l.rotate(); err != nil {
				return n, nil
			}
		}
		part := p[:min(int64(len(p)), l.limit-l.size)]
		written, err := l.file.Write(part)
		l.size += int64(written)
		if err != nil {
			return n, nil
		}
		p = p[len(part):]
	}
	return n, nil
}

// rotate makes the file the older one.
func (l *logFile) rotate() error {
	if err := os.Rename(l.path, l.path+instance.OlderLog); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old := l.file
	if err := l.open(); err != nil {
		l.file = old
		return err
	}
	return old.Close()
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(debug.SetCrashOutput(nil, debug.CrashOptions{}), l.file.Close())
}
