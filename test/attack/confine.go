//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// volumes asks for volumes that nobody has given the guest.
func (a *attacker) volumes() error {
	for _, id := range []string{"", "99", "-1", "/", "..", "../0", "0/..", "0\x00", "\x00", "0 ", strings.Repeat("0", 17), strings.Repeat("z", 4096), "bake0"} {
		c, refused, err := a.dial([]byte(id))
		switch {
		case c == nil:
			return err
		case err == nil && refused == "":
			a.broken("volume %.20q", id)
		default:
			a.refused++
		}
		c.Close()
	}
	// A frame whose length is not to be believed.
	c, _, err := a.dial(nil)
	if c == nil {
		return err
	}
	c.Close()
	return nil
}

// versions asks for protocols that are not spoken and messages of all sizes.
func (a *attacker) versions() error {
	for _, v := range []string{"", "9P1999", "HTTP/1.1", strings.Repeat("9", 60000)} {
		c, _, err := a.dial([]byte(a.volume))
		if err != nil {
			return err
		}
		body, err := c.do(tVersion, uint32(maxSize), v)
		if err == nil && !strings.Contains(string(body), "unknown") {
			a.broken("version %.20q: %q", v, body)
		} else {
			a.refused++
		}
		// Nothing is attached by it.
		c.refuses("stat before attach", tGetattr, rootFID, uint64(0x7ff))
		c.Close()
	}
	for _, size := range []uint32{0, 1, 6, 7, 23} {
		c, _, err := a.dial([]byte(a.volume))
		if err != nil {
			return err
		}
		body, err := c.do(tVersion, size, "9P2000.L")
		if err == nil && !strings.Contains(string(body), "unknown") {
			a.broken("messages of %d bytes: %q", size, body)
		} else {
			a.refused++
		}
		c.Close()
	}
	return nil
}

// hostileNames are no names of anything in a directory.
var hostileNames = []string{
	"", ".", "..", "/", "//", "../outside", "../outside/canary", "../../etc/passwd", "/etc/passwd", "./canary", "canary/", "canary/..",
	"rel/canary", "abs/canary", "\x00", "canary\x00", "..\x00", "a/b", strings.Repeat("n", 256), strings.Repeat("n", 4096),
	strings.Repeat("../", 100), strings.Repeat("n", 65535),
}

// names gives every message that has a name each of them.
func (a *attacker) names() error {
	c, err := a.attach()
	if err != nil {
		return err
	}
	defer func() { c.Close() }()
	ask := func(name, what string, kind uint8, fields ...any) (err error) {
		c, err = c.refusesAndLives(fmt.Sprintf("%s of %.30q", what, name), kind, fields...)
		return err
	}
	for _, name := range hostileNames {
		for _, m := range []struct {
			what   string
			kind   uint8
			fields []any
		}{
			{"walk", tWalk, []any{rootFID, uint32(50), uint16(1), name}},
			{"mkdir", tMkdir, []any{rootFID, name, uint32(0o755), uint32(0)}},
			{"symlink", tSymlink, []any{rootFID, name, "target", uint32(0)}},
			{"mknod", tMknod, []any{rootFID, name, uint32(unix.S_IFIFO | 0o644), uint32(0), uint32(0), uint32(0)}},
			{"unlinkat", tUnlinkat, []any{rootFID, name, uint32(0)}},
			{"unlinkat of a directory", tUnlinkat, []any{rootFID, name, uint32(unix.AT_REMOVEDIR)}},
			{"renameat from", tRenameat, []any{rootFID, name, rootFID, "stolen"}},
			{"renameat to", tRenameat, []any{rootFID, "canary", rootFID, name}},
		} {
			if err := ask(name, m.what, m.kind, m.fields...); err != nil {
				return err
			}
		}
		// These change or need a fid.
		if err := c.walk(rootFID, 51); err != nil {
			return err
		}
		if err := ask(name, "creat", tLcreate, uint32(51), name, uint32(unix.O_RDWR), uint32(0o644), uint32(0)); err != nil {
			return err
		}
		if err := c.walk(rootFID, 52, "canary"); err != nil {
			return err
		}
		if err := ask(name, "link", tLink, rootFID, uint32(52), name); err != nil {
			return err
		}
		_ = c.walk(rootFID, 53, "canary")
		if err := ask(name, "rename", tRename, uint32(53), rootFID, name); err != nil {
			return err
		}
		for _, fid := range []uint32{51, 52, 53} {
			_, _ = c.do(tClunk, fid)
		}
	}
	// .. behind a name that is there, and many.
	if _, err := c.do(tMkdir, rootFID, "deep", uint32(0o755), uint32(0)); err != nil {
		return err
	}
	for _, way := range [][]string{{"deep", ".."}, {"deep", "..", ".."}, {"deep", "..", "..", "outside", "canary"}, {"canary", ".."}, {"..", "outside"}} {
		c.refusesRaw(fmt.Sprintf("walk of %q", way), func() error { return c.walk(rootFID, 54, way...) })
	}
	for _, way := range [][]string{{"rel", "canary"}, {"abs", "canary"}, {"rel", "..", "canary"}, {"abs", ".."}} {
		c.refusesRaw(fmt.Sprintf("walk of %q", way), func() error { return c.walk(rootFID, 54, way...) })
	}
	_, err = c.do(tUnlinkat, rootFID, "deep", uint32(unix.AT_REMOVEDIR))
	return err
}

// links tries all that may follow a symlink on its fid.
func (a *attacker) links() error {
	c, err := a.attach()
	if err != nil {
		return err
	}
	defer c.Close()
	for i, target := range []string{"/", "..", "../outside", "../outside/canary", "/proc/self/root", "/proc/1/cwd", "/etc/passwd"} {
		if _, err := c.do(tSymlink, rootFID, fmt.Sprint("own", i), target, uint32(0)); err != nil {
			return fmt.Errorf("a symlink is any text: %w", err)
		}
	}
	for _, name := range []string{"rel", "abs", "own0", "own1", "own2", "own3", "own4", "own5", "own6"} {
		if err := c.walk(rootFID, 60, name); err != nil {
			return err
		}
		body, err := c.do(tGetattr, uint32(60), uint64(0x7ff))
		if err != nil {
			return err
		}
		// valid[8] qid[13] mode[4]
		if mode := uint32(body[21]) | uint32(body[22])<<8; mode&unix.S_IFMT != unix.S_IFLNK {
			a.broken("stat of the link %s follows it: mode %#o", name, mode)
		}
		c.refuses("walk through "+name, tWalk, uint32(60), uint32(61), uint16(1), "canary")
		c.refuses("mkdir in "+name, tMkdir, uint32(60), "made", uint32(0o755), uint32(0))
		c.refuses("symlink in "+name, tSymlink, uint32(60), "made", "x", uint32(0))
		c.refuses("unlinkat in "+name, tUnlinkat, uint32(60), "canary", uint32(0))
		c.refuses("renameat from "+name, tRenameat, uint32(60), "canary", rootFID, "stolen")
		c.refuses("renameat to "+name, tRenameat, rootFID, "canary", uint32(60), "given")
		c.refuses("readdir of "+name, tReaddir, uint32(60), uint64(0), uint32(8192))
		c.refuses("truncation of "+name, tSetattr, uint32(60), uint32(8), uint32(0), uint32(0), uint32(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
		// chmod of a symlink: an error, or nothing outside changes, which the
		// host looks at.
		_, _ = c.do(tSetattr, uint32(60), uint32(1), uint32(0o4777), uint32(0), uint32(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
		for _, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR | unix.O_TRUNC, unix.O_PATH, unix.O_DIRECTORY} {
			if err := c.walk(rootFID, 62, name); err != nil {
				return err
			}
			c.refusesRaw(fmt.Sprintf("open of %s with %#x", name, flags), func() error {
				if _, err := c.do(tLopen, uint32(62), flags); err != nil {
					return err
				}
				// What is open must not give anything.
				_, err := c.do(tRead, uint32(62), uint64(0), uint32(100))
				return err
			})
			_, _ = c.do(tClunk, uint32(62))
			if err := c.walk(rootFID, 63); err != nil {
				return err
			}
			if flags != unix.O_PATH && flags != unix.O_DIRECTORY {
				c.refuses(fmt.Sprintf("creat of %s with %#x", name, flags), tLcreate, uint32(63), name, flags, uint32(0o777), uint32(0))
			}
			_, _ = c.do(tClunk, uint32(63))
		}
		if _, err := c.do(tClunk, uint32(60)); err != nil {
			return err
		}
	}
	for i := range 7 {
		if _, err := c.do(tUnlinkat, rootFID, fmt.Sprint("own", i), uint32(0)); err != nil {
			return err
		}
	}
	return nil
}

// special tries devices and FIFOs: opening one must not hang and not reach it.
func (a *attacker) special() error {
	c, err := a.attach()
	if err != nil {
		return err
	}
	defer c.Close()
	for _, mode := range []uint32{unix.S_IFBLK, unix.S_IFCHR} {
		for _, dev := range [][2]uint32{{1, 1}, {1, 3}, {8, 0}, {254, 0}} {
			c.refuses(fmt.Sprintf("mknod of device %d:%d", dev[0], dev[1]), tMknod, rootFID, "dev", mode|0o666, dev[0], dev[1], uint32(0))
		}
	}
	for _, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR | unix.O_NONBLOCK} {
		if err := c.walk(rootFID, 70, "fifo"); err != nil {
			return err
		}
		c.refuses(fmt.Sprintf("open of a FIFO with %#x", flags), tLopen, uint32(70), flags)
		if _, err := c.do(tClunk, uint32(70)); err != nil {
			return err
		}
	}
	return nil
}

// rounds is how often a race is run.
const rounds = 400

// races changes a name between a directory and a symlink to the outside while
// other connections walk through it, read and make files.
func (a *attacker) races() error {
	setup, err := a.attach()
	if err != nil {
		return err
	}
	_, err1 := setup.do(tMkdir, rootFID, "dir", uint32(0o755), uint32(0))
	_, err2 := setup.do(tSymlink, rootFID, "way", "../outside", uint32(0))
	setup.Close() // a volume has few connections, and the mount has one
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	stop := make(chan struct{})
	var flipping sync.WaitGroup
	var flipped error
	flipping.Go(func() {
		c, err := a.attach()
		if err != nil {
			flipped = err
			return
		}
		defer c.Close()
		for {
			for _, from := range []string{"dir", "way"} {
				for _, m := range [][2]string{{from, "race"}, {"race", from}} {
					if _, err := c.do(tRenameat, rootFID, m[0], rootFID, m[1]); err != nil {
						flipped = err
						return
					}
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	var walking sync.WaitGroup
	var errs [2]error
	for i := range errs {
		walking.Go(func() {
			c, err := a.attach()
			if err != nil {
				errs[i] = err
				return
			}
			defer c.Close()
			for range rounds {
				if err := c.walk(rootFID, 80, "race", "canary"); err == nil {
					a.broken("a walk through a name that changes finds the file outside")
					_, _ = c.do(tClunk, uint32(80))
				}
				if err := c.walk(rootFID, 80, "race"); err == nil {
					// No error is asked for: it may be the directory.
					if c.walk(80, 81, "canary") == nil {
						a.broken("a walk from a name that changes finds the file outside")
						_, _ = c.do(tClunk, uint32(81))
					}
					name := fmt.Sprint("new", i)
					_, _ = c.do(tMkdir, uint32(80), name, uint32(0o755), uint32(0))
					_, _ = c.do(tUnlinkat, uint32(80), name, uint32(unix.AT_REMOVEDIR))
					_, _ = c.do(tLcreate, uint32(80), fmt.Sprint("made", i), uint32(unix.O_RDWR), uint32(0o644), uint32(0))
					if _, err := c.do(tClunk, uint32(80)); err != nil {
						errs[i] = err
						return
					}
				}
			}
			a.addRefused(2 * rounds)
		})
	}
	walking.Wait()
	close(stop)
	flipping.Wait()
	for _, err := range append(errs[:], flipped) {
		if err != nil {
			return err
		}
	}
	if setup, err = a.attach(); err != nil {
		return err
	}
	defer setup.Close()
	for _, name := range []string{"made0", "made1"} {
		if err := setup.walk(rootFID, 82, "dir"); err != nil {
			return err
		}
		_, _ = setup.do(tUnlinkat, uint32(82), name, uint32(0))
		_, _ = setup.do(tUnlinkat, uint32(82), strings.Replace(name, "made", "new", 1), uint32(unix.AT_REMOVEDIR))
		_, _ = setup.do(tClunk, uint32(82))
	}
	if _, err := setup.do(tUnlinkat, rootFID, "way", uint32(0)); err != nil {
		return err
	}
	_, err = setup.do(tUnlinkat, rootFID, "dir", uint32(unix.AT_REMOVEDIR))
	return err
}

// writes tries each message that changes something, on a volume for reading.
func (a *attacker) writes() error {
	c, err := a.attach()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.walk(rootFID, 1, "canary"); err != nil {
		return err
	}
	for _, flags := range []uint32{unix.O_WRONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_TRUNC, unix.O_RDWR | unix.O_APPEND} {
		if err := c.walk(rootFID, 2, "canary"); err != nil {
			return err
		}
		c.refuses(fmt.Sprintf("open with %#x", flags), tLopen, uint32(2), flags)
		_, _ = c.do(tClunk, uint32(2))
		if err := c.walk(rootFID, 2); err != nil {
			return err
		}
		c.refuses(fmt.Sprintf("creat with %#x", flags), tLcreate, uint32(2), "new", flags, uint32(0o644), uint32(0))
		_, _ = c.do(tClunk, uint32(2))
	}
	none := []any{uint32(0), uint32(0), uint32(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0)}
	for what, bit := range map[string]uint32{"chmod": 1, "truncate": 8, "utimensat of now": 0x20, "utimensat": 0x120} {
		c.refuses(what, tSetattr, append([]any{uint32(1), bit}, none...)...)
	}
	c.refuses("mkdir", tMkdir, rootFID, "new", uint32(0o755), uint32(0))
	c.refuses("symlink", tSymlink, rootFID, "new", "canary", uint32(0))
	c.refuses("mknod", tMknod, rootFID, "new", uint32(unix.S_IFIFO|0o644), uint32(0), uint32(0), uint32(0))
	c.refuses("link", tLink, rootFID, uint32(1), "new")
	c.refuses("renameat", tRenameat, rootFID, "canary", rootFID, "new")
	c.refuses("unlinkat", tUnlinkat, rootFID, "canary", uint32(0))
	c.refusesRaw("setxattr", func() error {
		if err := c.walk(rootFID, 3, "canary"); err != nil {
			return fmt.Errorf("walk: %v", err)
		}
		if _, err := c.do(tXattrcreate, uint32(3), "user.new", uint64(1), uint32(0)); err != nil {
			return err
		}
		if _, err := c.do(tWrite, uint32(3), uint64(0), uint32(1), []byte("x")); err != nil {
			return err
		}
		_, err := c.do(tClunk, uint32(3))
		return err
	})
	c.refuses("remove", tRemove, uint32(1))
	return nil
}
