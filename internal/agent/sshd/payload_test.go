//go:build linux

package sshd

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// encodeModes encodes pairs of opcode and argument.
func encodeModes(pairs ...uint32) []byte {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		b = append(b, byte(pairs[i]))
		b = binary.BigEndian.AppendUint32(b, pairs[i+1])
	}
	return append(b, modeEnd)
}

func TestApplyModes(t *testing.T) {
	usual := unix.Termios{Iflag: unix.ICRNL | unix.IXON, Lflag: unix.ECHO | unix.ICANON | unix.ISIG, Oflag: unix.OPOST, Cflag: unix.CS8}
	usual.Cc[unix.VINTR] = 3
	for name, c := range map[string]struct {
		modes []byte
		want  func(*unix.Termios)
	}{
		"nothing":   {nil, func(*unix.Termios) {}},
		"end":       {encodeModes(), func(*unix.Termios) {}},
		"flags":     {encodeModes(53, 0, 36, 0, 42, 1, 72, 1), func(t *unix.Termios) { t.Lflag &^= unix.ECHO; t.Iflag = unix.IXON | unix.IUTF8; t.Oflag |= unix.ONLCR }},
		"character": {encodeModes(1, 7), func(t *unix.Termios) { t.Cc[unix.VINTR] = 7 }},
		"disabled":  {encodeModes(1, 255), func(t *unix.Termios) { t.Cc[unix.VINTR] = 0 }},
		"size":      {encodeModes(90, 1, 91, 0), func(t *unix.Termios) { t.Cflag = unix.CS7 }},
		"speed":     {encodeModes(128, 9600, 129, 9600), func(*unix.Termios) {}},
		"unknown":   {encodeModes(99, 1, 53, 0), func(t *unix.Termios) { t.Lflag &^= unix.ECHO }},
		"beyond":    {encodeModes(160, 1, 53, 0), func(*unix.Termios) {}},
		"cut":       {encodeModes(53, 0)[:4], func(*unix.Termios) {}},
		"after end": {append(encodeModes(), encodeModes(53, 0)...), func(*unix.Termios) {}},
	} {
		got, want := usual, usual
		c.want(&want)
		applyModes(&got, c.modes)
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func FuzzModes(f *testing.F) {
	f.Add(encodeModes(53, 0, 1, 255, 90, 1))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, modes []byte) {
		a, b := unix.Termios{}, unix.Termios{}
		applyModes(&a, modes)
		applyModes(&b, append(modes[:len(modes):len(modes)], modeEnd))
		if a != b {
			t.Errorf("%x: %+v, and with an end %+v", modes, a, b)
		}
	})
}

func FuzzRequests(f *testing.F) {
	f.Add(ssh.Marshal(oneString{`{"args":["sh","-c","x"],"env":["A=b"],"cwd":"/","user":"1:2"}`}))
	f.Add(ssh.Marshal(oneString{`{"op":"pack","path":"/etc"}`}))
	f.Add([]byte("\x00\x00\x00\xff{}"))
	f.Add(ssh.Marshal(ptyRequest{Term: "x", Cols: 1 << 20, Rows: 1, Modes: "\x00"}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if r, err := decodeExec(payload); err == nil && len(r.Args) == 0 {
			t.Error("a request without a program is taken")
		}
		if text, err := decodeArchive(payload); err == nil && (len(text) > wire.SessionLimit || strings.Contains(text, "\x00")) {
			t.Errorf("%q is taken", text)
		}
		var p ptyRequest
		if ssh.Unmarshal(payload, &p) == nil {
			if rows, cols := size(p.Rows, p.Cols); uint32(rows) > p.Rows || uint32(cols) > p.Cols {
				t.Errorf("%d rows and %d columns became %d and %d", p.Rows, p.Cols, rows, cols)
			}
		}
	})
}
