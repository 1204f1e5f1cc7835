package initrd

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// File types and permissions, as stat(2) has them on Linux.
const (
	modeDir    = 0o040000
	modeChar   = 0o020000
	modeFile   = 0o100000
	magic      = "070701"
	headerSize = 110
	alignment  = 4
	trailer    = "TRAILER!!!"
)

// An entry is one file of the archive. Owner, group and time are always 0.
type entry struct {
	name         string // without a leading slash
	mode         uint32
	major, minor uint32 // of a device node
	data         []byte
}

// archive writes the entries in the order given, which must have directories
// before what is in them, and ends the archive. Its length is a multiple of 4,
// so that the kernel finds another one that follows it.
func archive(w io.Writer, entries []entry) error {
	for i, e := range entries {
		if err := writeEntry(w, uint32(i+1), e); err != nil {
			return fmt.Errorf("write %s to the initrd: %w", e.name, err)
		}
	}
	return writeEntry(w, 0, entry{name: trailer})
}

func writeEntry(w io.Writer, inode uint32, e entry) error {
	links := 1
	if e.mode&0o170000 == modeDir {
		links = 2
	}
	if int64(len(e.data)) > 1<<32-1 {
		return fmt.Errorf("a file of %d bytes does not fit into the format", len(e.data))
	}
	var b bytes.Buffer
	b.WriteString(magic)
	for _, field := range []uint32{
		inode, e.mode, 0, 0, uint32(links), 0, uint32(len(e.data)),
		0, 0, e.major, e.minor, uint32(len(e.name) + 1), 0,
	} {
		fmt.Fprintf(&b, "%08X", field)
	}
	b.WriteString(e.name + "\x00")
	b.WriteString(padding(b.Len()))
	if _, err := w.Write(b.Bytes()); err != nil {
		return err
	}
	if _, err := w.Write(e.data); err != nil {
		return err
	}
	_, err := io.WriteString(w, padding(len(e.data)))
	return err
}

func padding(n int) string {
	return strings.Repeat("\x00", (alignment-n%alignment)%alignment)
}
