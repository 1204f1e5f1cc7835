package sshclient

import (
	"cmp"
	"fmt"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// The size of a terminal that nobody sees.
const (
	defaultColumns = 80
	defaultRows    = 24
)

// A terminal is ours, as far as the program's follows it.
type terminal struct {
	std     Streams
	restore func()
}

// IsTerminal reports whether a file is a terminal.
func IsTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// openTerminal puts our terminal into raw mode, if it is what we read: all that is
// typed then goes to the program's, which makes signals and lines of it.
func openTerminal(std Streams) (*terminal, error) {
	t := &terminal{std: std, restore: func() {}}
	if !IsTerminal(std.Stdin) {
		return t, nil
	}
	fd := int(std.Stdin.Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("put the terminal into raw mode: %w", err)
	}
	t.restore = sync.OnceFunc(func() { term.Restore(fd, state) })
	return t, nil
}

// size is that of the first of our streams that is a terminal, in characters.
func (t *terminal) size() (columns, rows uint32) {
	for _, f := range []*os.File{t.std.Stdout, t.std.Stderr, t.std.Stdin} {
		if f == nil {
			continue
		}
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			return uint32(w), uint32(h)
		}
	}
	return defaultColumns, defaultRows
}

// request is the payload of "pty-req", RFC 4254, section 6.2. The modes are the
// guest's own.
func (t *terminal) request(name string) []byte {
	columns, rows := t.size()
	return ssh.Marshal(struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}{cmp.Or(name, "xterm"), columns, rows, 0, 0, "\x00"})
}

// change is the payload of "window-change", section 6.7.
func (t *terminal) change() []byte {
	columns, rows := t.size()
	return ssh.Marshal(struct{ Columns, Rows, Width, Height uint32 }{columns, rows, 0, 0})
}
