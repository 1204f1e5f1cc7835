//go:build linux

package agent

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A logger writes lines to the kernel's console.
type logger struct {
	mu      sync.Mutex
	enabled atomic.Bool
}

func newLogger() *logger { return new(logger) }

func (l *logger) setVerbose(on bool) { l.enabled.Store(on) }

// verbose writes a line if the manifest asks for it.
func (l *logger) verbose(format string, args ...any) {
	if l.enabled.Load() {
		l.always(format, args...)
	}
}

// always writes a line to the console or, if there is none, to the kernel's
// log, at the level of errors. If neither can take it, it is lost.
func (l *logger) always(format string, args ...any) {
	text := "bake: " + fmt.Sprintf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if write("/dev/console", strings.ReplaceAll(text, "\n", "\r\n")+"\r\n") {
		return
	}
	for line := range strings.Lines(text) {
		write("/dev/kmsg", "<3>"+line)
	}
}

// write does not wait for a console that takes nothing.
func write(path, text string) bool {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		n, _ = unix.Write(int(fd), []byte(text))
	})
	return err == nil && n > 0
}
