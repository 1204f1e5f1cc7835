//go:build linux

package sftp

import (
	"fmt"
	"io"
	"io/fs"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// namesAtOnce is how many names an answer has: with the longest names and their
// lines it stays below maxPacket.
const namesAtOnce = 128

func (s *server) readdir(id uint32, d *decoder) error {
	h, _, err := s.handle(d)
	switch {
	case err != nil:
		return err
	case h.dir == nil:
		return unix.ENOTDIR
	}
	names, err := h.dir.Readdirnames(namesAtOnce)
	if len(names) == 0 {
		if err == nil {
			err = io.EOF
		}
		return err
	}
	e := s.begin(typeName, id)
	at := len(e.b)
	e.uint32(0)
	count := uint32(0)
	for _, name := range names {
		var st unix.Stat_t
		if unix.Fstatat(h.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue // removed meanwhile
		}
		e.string(name)
		e.string(s.line(name, &st))
		e.attrs(&st)
		count++
	}
	tail := encoder{b: e.b[at:at]}
	tail.uint32(count)
	return nil
}

// line is what people read of a file, as ls -l prints it (section 7).
func (s *server) line(name string, st *unix.Stat_t) string {
	mtime := time.Unix(st.Mtim.Unix())
	format := "Jan _2 15:04"
	if age := time.Since(mtime); age > 183*24*time.Hour || age < -24*time.Hour {
		format = "Jan _2  2006"
	}
	return fmt.Sprintf("%s %3d %-8s %-8s %8d %s %s", modeText(st.Mode), st.Nlink,
		s.names.user(st.Uid), s.names.group(st.Gid), st.Size, mtime.Format(format), name)
}

// modeText is st_mode in ten letters.
func modeText(mode uint32) string {
	kinds := map[uint32]byte{
		unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFCHR: 'c', unix.S_IFBLK: 'b', unix.S_IFIFO: 'p', unix.S_IFSOCK: 's',
	}
	text := []byte("-" + fs.FileMode(mode & 0o777).String()[1:])
	if kind, ok := kinds[mode&unix.S_IFMT]; ok {
		text[0] = kind
	}
	for _, special := range []struct {
		bit uint32
		at  int
		is  string // with and without the right to execute
	}{{unix.S_ISUID, 3, "sS"}, {unix.S_ISGID, 6, "sS"}, {unix.S_ISVTX, 9, "tT"}} {
		if mode&special.bit != 0 {
			i := 1
			if text[special.at] == 'x' {
				i = 0
			}
			text[special.at] = special.is[i]
		}
	}
	return string(text)
}

// maxAccounts bounds how many names are remembered.
const maxAccounts = 1024

// accounts are the names of users and groups of the container.
type accounts struct{ users, groups map[uint32]string }

func (a *accounts) user(id uint32) string {
	return lookup(&a.users, id, func(id string) (string, error) {
		u, err := user.LookupId(id)
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
}

func (a *accounts) group(id uint32) string {
	return lookup(&a.groups, id, func(id string) (string, error) {
		g, err := user.LookupGroupId(id)
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
}

// lookup is the name of an ID, or the number where it has none.
func lookup(known *map[uint32]string, id uint32, find func(string) (string, error)) string {
	if name, ok := (*known)[id]; ok {
		return name
	}
	number := strconv.FormatUint(uint64(id), 10)
	name, err := find(number)
	if err != nil || name == "" {
		name = number
	}
	if *known == nil || len(*known) >= maxAccounts {
		*known = map[uint32]string{}
	}
	(*known)[id] = name
	return name
}
