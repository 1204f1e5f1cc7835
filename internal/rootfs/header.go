package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
	"time"
)

// paxXattr begins the PAX keys that carry extended attributes, as GNU tar,
// Docker and every other writer of layers put them.
const paxXattr = "SCHILY.xattr."

// inodeOf takes the metadata of a tar header; contents are not its business.
func inodeOf(hdr *tar.Header) (*Inode, error) {
	if hdr.Uid < 0 || hdr.Gid < 0 || int64(hdr.Uid) > math.MaxUint32-1 || int64(hdr.Gid) > math.MaxUint32-1 {
		return nil, fmt.Errorf("owner %d:%d is out of range", hdr.Uid, hdr.Gid)
	}
	n := &Inode{
		Mode:  uint32(hdr.Mode) & ModePerm,
		UID:   uint32(hdr.Uid),
		GID:   uint32(hdr.Gid),
		Mtime: hdr.ModTime,
	}
	if n.Mtime.IsZero() {
		n.Mtime = time.Unix(0, 0)
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		n.Mode |= ModeRegular
		n.Size = hdr.Size
	case tar.TypeDir:
		n.Mode |= ModeDir
	case tar.TypeSymlink:
		n.Mode = ModeSymlink | 0o777 // links have no permissions of their own: symlink(7)
		n.Target, n.Size = hdr.Linkname, int64(len(hdr.Linkname))
		switch {
		case hdr.Linkname == "":
			return nil, errors.New("a symbolic link without a target")
		case len(hdr.Linkname) > maxPath:
			return nil, fmt.Errorf("its target is %d bytes long (Linux allows %d)", len(hdr.Linkname), maxPath)
		case strings.IndexByte(hdr.Linkname, 0) >= 0:
			return nil, errors.New("its target has a zero byte")
		}
	case tar.TypeChar, tar.TypeBlock:
		n.Mode |= ModeChar
		if hdr.Typeflag == tar.TypeBlock {
			n.Mode = n.Mode&^ModeType | ModeBlock
		}
		if err := checkDevice(hdr.Devmajor, hdr.Devminor); err != nil {
			return nil, err
		}
		n.Major, n.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	case tar.TypeFifo:
		n.Mode |= ModeFIFO
	default:
		return nil, fmt.Errorf("its type %q is not one that a root filesystem can have", hdr.Typeflag)
	}
	total := 0
	for key, value := range hdr.PAXRecords {
		attr, ok := strings.CutPrefix(key, paxXattr)
		if !ok || !keepXattr(attr) {
			continue
		}
		if total += len(attr) + len(value); len(attr) > maxName || total > maxXattrs {
			return nil, fmt.Errorf("its extended attributes are larger than %d bytes", maxXattrs)
		}
		n.Xattrs = append(n.Xattrs, Xattr{attr, value})
	}
	sortXattrs(n.Xattrs)
	return n, nil
}

func sortXattrs(x []Xattr) {
	sort.Slice(x, func(i, j int) bool { return x[i].Name < x[j].Name })
}

// checkDevice bounds device numbers to the kernel's 12 and 20 bits
// (include/linux/kdev_t.h, new_encode_dev).
func checkDevice(major, minor int64) error {
	if major < 0 || major >= 1<<12 || minor < 0 || minor >= 1<<20 {
		return fmt.Errorf("device number %d:%d is out of range", major, minor)
	}
	return nil
}

// isSparse reports whether the contents in the archive have holes, so that they
// don't lie there as they are.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
