//go:build linux

// Inotify is a program for the test guests: it watches the paths of its arguments
// with inotify(7), says "ready", and writes each event as a line, "MASK NAME" in
// hexadecimal and text, until one says that a file has been written and closed.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if err := watch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "inotify:", err)
		os.Exit(1)
	}
}

func watch(paths []string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	for _, p := range paths {
		if _, err := unix.InotifyAddWatch(fd, p, unix.IN_ATTRIB|unix.IN_MODIFY|unix.IN_CLOSE_WRITE); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	fmt.Println("ready")
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			mask := binary.NativeEndian.Uint32(b[4:])
			length := int(binary.NativeEndian.Uint32(b[12:]))
			name := bytes.TrimRight(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+length], "\x00")
			fmt.Printf("%x %s\n", mask, name)
			if mask&unix.IN_CLOSE_WRITE != 0 {
				return nil
			}
			b = b[unix.SizeofInotifyEvent+length:]
		}
	}
}
