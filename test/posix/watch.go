//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// watched are the events that are told, inotify(7).
var watched = []struct {
	bit  uint32
	name string
}{
	{unix.IN_MODIFY, "MODIFY"}, {unix.IN_ATTRIB, "ATTRIB"}, {unix.IN_CLOSE_WRITE, "CLOSE_WRITE"},
	{unix.IN_CREATE, "CREATE"}, {unix.IN_DELETE, "DELETE"},
}

// watch tells what happens in a directory, a line each: the name, or "." for
// the directory itself, and the event. It ends when its input does.
func watch(dir string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	var mask uint32
	for _, w := range watched {
		mask |= w.bit
	}
	if _, err := unix.InotifyAddWatch(fd, dir, mask); err != nil {
		return err
	}
	fmt.Println("watching")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		for at := b[:n]; len(at) > 0; {
			bits := binary.NativeEndian.Uint32(at[4:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(at[12:]))
			name := "."
			if text, _, _ := bytes.Cut(at[unix.SizeofInotifyEvent:size], []byte{0}); len(text) > 0 {
				name = string(text)
			}
			at = at[size:]
			var events []string
			for _, w := range watched {
				if bits&w.bit != 0 {
					events = append(events, w.name)
				}
			}
			fmt.Println(name, strings.Join(events, " "))
		}
	}
}
