//go:build linux

package sshd

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// setUpTerminal gives a terminal what the client asked for, before the program
// sees it, and says what it is called.
func (s *session) setUpTerminal(master *os.File) (env []string, err error) {
	var n int
	err = control(master, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		applyModes(t, []byte(s.pty.Modes))
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("set up the session's terminal: %w", err)
	}
	return []string{fmt.Sprintf("SSH_TTY=/dev/pts/%d", n)}, nil
}

// setWindow sets a terminal's size; the kernel sends SIGWINCH.
func setWindow(master *os.File, rows, cols uint16) {
	if rows == 0 || cols == 0 {
		return
	}
	// What is closed or has no size needs none.
	_ = control(master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
}

// endOfFile is the character that a terminal takes for the end of its input, if
// it is in the mode in which it takes any.
func endOfFile(master *os.File) (c byte, ok bool) {
	_ = control(master, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			c, ok = t.Cc[unix.VEOF], t.Lflag&unix.ICANON != 0
		}
		return err
	})
	return c, ok && c != 0
}

// control keeps a file open while f uses its descriptor.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
