//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tree DIR prints a line for each file below DIR: what lstat(2), readlink(2)
// and getxattr(2) tell of it, and the first bytes of the SHA-256 of its
// contents. Names of one inode carry the same letter.
func tree(args []string) error {
	inodes := map[uint64]string{}
	for _, dir := range args {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			line, err := describe(path, inodes)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			_, err = fmt.Println(line)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func describe(path string, inodes map[uint64]string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	fields := []string{kind(st.Mode) + fmt.Sprintf("%04o", st.Mode&0o7777), fmt.Sprintf("%d:%d", st.Uid, st.Gid)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		fields = append(fields, fmt.Sprintf("dev=%d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	case unix.S_IFREG:
		sum, err := hash(path)
		if err != nil {
			return "", err
		}
		fields = append(fields, fmt.Sprintf("%d", st.Size), sum)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		fields = append(fields, fmt.Sprintf("@%d", st.Mtim.Sec))
	}
	fields = append(fields, fmt.Sprintf("%q", path))
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		return strings.Join(append(fields, "->", target), " "), nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		if inodes[st.Ino] == "" {
			inodes[st.Ino] = string(rune('A' + len(inodes)))
		}
		fields = append(fields, fmt.Sprintf("links=%d,%s", st.Nlink, inodes[st.Ino]))
	}
	attrs, err := xattrs(path)
	return strings.Join(append(fields, attrs...), " "), err
}

func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "d"
	case unix.S_IFCHR:
		return "c"
	case unix.S_IFBLK:
		return "b"
	case unix.S_IFIFO:
		return "p"
	case unix.S_IFLNK:
		return "l"
	case unix.S_IFSOCK:
		return "s"
	}
	return "-"
}

func hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:4]), nil
}

func xattrs(path string) ([]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	var out []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("read attribute %s: %w", name, err)
		}
		out = append(out, fmt.Sprintf("%s=%x", name, value[:n]))
	}
	slices.Sort(out)
	return out, nil
}
