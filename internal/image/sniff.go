package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// kind is what a local source is.
type kind int

const (
	kindDir kind = iota + 1
	kindOCIDir
	kindEROFS
	kindSquashFS
	kindExt4
	kindTar // of a content still to be looked at, perhaps compressed
	kindDockerArchive
	kindOCIArchive
)

func (k kind) String() string {
	switch k {
	case kindDir:
		return "a plain directory"
	case kindOCIDir:
		return "a directory with an OCI layout"
	case kindEROFS, kindSquashFS, kindExt4:
		return "a filesystem image (" + k.fsType() + ")"
	case kindDockerArchive:
		return "a docker-archive"
	case kindOCIArchive:
		return "an OCI archive"
	}
	return "a tar archive"
}

func (k kind) fsType() string {
	switch k {
	case kindEROFS:
		return "erofs"
	case kindSquashFS:
		return "squashfs"
	}
	return "ext4"
}

// sniff looks at what is at path. The error wraps fs.ErrNotExist if nothing is.
func sniff(path string) (kind, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if fi.IsDir() {
		if fi, err := os.Stat(filepath.Join(path, "oci-layout")); err == nil && fi.Mode().IsRegular() {
			return kindOCIDir, nil
		}
		return kindDir, nil
	}
	if !fi.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is neither a regular file nor a directory", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	if n == 0 {
		return 0, fmt.Errorf("%s is empty", path)
	}
	k, err := sniffHead(head[:n])
	if err != nil {
		return 0, fmt.Errorf("%s %w", path, err)
	}
	return k, nil
}

var errUnknownFile = errors.New("is none of the files bake can pack: a tar (plain, gzip or zstd) of an image or " +
	"a root filesystem, or a filesystem image (EROFS, squashfs, ext4)")

// sniffHead tells a file by its first bytes: superblocks first, since a
// filesystem image may begin with anything but them.
func sniffHead(head []byte) (kind, error) {
	at := func(off, size int) []byte {
		if len(head) < off+size {
			return make([]byte, size)
		}
		return head[off : off+size]
	}
	le := binary.LittleEndian
	switch {
	case string(at(0, 4)) == "hsqs": // SQUASHFS_MAGIC
		return kindSquashFS, nil
	case le.Uint32(at(1024, 4)) == 0xE0F5E1E2: // EROFS_SUPER_MAGIC_V1
		return kindEROFS, nil
	case compressionOf(head) != plain:
		return kindTar, nil
	case isTarHeader(at(0, 512)):
		return kindTar, nil
	case le.Uint16(at(1080, 2)) == 0xEF53: // EXT4_SUPER_MAGIC
		return kindExt4, nil
	case isZero(at(0, 512)) && len(head) >= 1024 && isZero(head[:1024]):
		return kindTar, nil // the end-of-archive marker first: an empty tar
	}
	return 0, errUnknownFile
}

func isZero(p []byte) bool { return len(bytes.TrimLeft(p, "\x00")) == 0 }

// isTarHeader checks the checksum that every tar header carries (POSIX.1-1988
// and later; the sum of all bytes, with the field itself as spaces).
func isTarHeader(h []byte) bool {
	var unsigned, signed int64
	for i, b := range h {
		if i >= 148 && i < 156 {
			b = ' '
		}
		unsigned += int64(b)
		signed += int64(int8(b))
	}
	var sum int64
	field := bytes.Trim(h[148:156], " \x00")
	if len(field) == 0 {
		return false
	}
	for _, c := range field {
		if c < '0' || c > '7' {
			return false
		}
		sum = sum<<3 | int64(c-'0')
	}
	return sum == unsigned || sum == signed
}
