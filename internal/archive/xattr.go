package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of extended attributes, in bytes: Linux's of one value and of a list
// (XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h), and what readers of
// archives take for all records of a file.
const (
	xattrValue = 64 << 10
	xattrList  = 64 << 10
	xattrAll   = 512 << 10
)

// attributes are a file's extended attributes as pax records. Those that cannot
// be read are left out with a warning.
func (p *packer) attributes(fd int, at place) map[string]string {
	list := make([]byte, xattrList)
	n, err := unix.Flistxattr(fd, list)
	if err != nil {
		if !unsupported(err) {
			p.warn(fmt.Errorf("list the extended attributes of %q: %w", at.shown, err))
		}
		return nil
	}
	var records map[string]string
	all := 0
	for name := range bytes.SplitSeq(list[:n], []byte{0}) {
		if !carried(string(name)) {
			continue
		}
		value := make([]byte, xattrValue)
		n, err := unix.Fgetxattr(fd, string(name), value)
		if all += n + len(name); err == nil && all > xattrAll {
			err = errors.New("the file has more attributes than an archive can hold")
		}
		if err != nil {
			p.warn(fmt.Errorf("read the extended attribute %q of %q: %w", name, at.shown, err))
			continue
		}
		if records == nil {
			records = map[string]string{}
		}
		records[xattrPrefix+string(name)] = string(value[:n])
	}
	return records
}

func unsupported(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS)
}

// setAttributes sets those of the entry's extended attributes that it may.
func (u *unpacker) setAttributes(fd int, hdr *tar.Header) {
	for record, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(record, xattrPrefix)
		if !ok || !carried(name) || !u.accepts(name) {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
			u.warn(fmt.Errorf("%q loses its extended attribute %q: %w", hdr.Name, name, err))
		}
	}
}

// accepts says whether an archive may set an attribute. Beside those of users
// they decide what a program may do and who may open a file, which is for the
// owner to say, and belongs to the owner.
func (u *unpacker) accepts(name string) bool {
	switch {
	case !u.Untrusted, strings.HasPrefix(name, "user."):
		return true
	case strings.HasPrefix(name, "trusted."):
		return false
	}
	return u.owners
}
