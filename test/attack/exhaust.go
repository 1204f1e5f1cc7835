//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// addRefused is for attempts that are counted together.
func (a *attacker) addRefused(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused += n
}

// sizes sends lengths that are not to be believed. The server may close the
// connection, so each has its own.
func (a *attacker) sizes() error {
	once := func(what string, do func(c *conn) error) error {
		c, err := a.attach()
		if err != nil {
			return fmt.Errorf("before %s: %w", what, err)
		}
		defer c.Close()
		c.refusesRaw(what, func() error { return do(c) })
		return nil
	}
	head := func(size uint32, kind uint8, rest ...byte) []byte { return encode(size, kind, uint16(9), rest) }
	raw := func(b []byte) func(*conn) error {
		return func(c *conn) error { _, err := c.raw(b); return err }
	}
	for _, m := range []struct {
		what string
		do   func(c *conn) error
	}{
		{"a message of 0 bytes", raw(head(0, tGetattr))},
		{"a message of 6 bytes", raw(head(6, tGetattr))},
		{"a message of 7 bytes that needs more", raw(head(7, tGetattr))},
		{"a message of 4 GiB", raw(head(0xffffffff, tWrite))},
		{"a message of 2 GiB", raw(head(0x80000000, tWrite))},
		{"a message longer than agreed", raw(head(maxSize+1, tWrite))},
		{"65535 names", raw(message(tWalk, 9, encode(rootFID, uint32(90), uint16(65535))))},
		{"17 names", raw(message(tWalk, 9, encode(rootFID, uint32(90), uint16(17), "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a")))},
		{"a name that ends behind the message", raw(message(tWalk, 9, encode(rootFID, uint32(90), uint16(1), uint16(65535), []byte("short"))))},
		{"a message with more than it has", raw(message(tGetattr, 9, encode(rootFID)))},
		{"a write of more than is there", func(c *conn) error {
			if err := c.create(91, "sizes"); err != nil {
				return fmt.Errorf("creat: %v", err)
			}
			_, err := c.do(tWrite, uint32(91), uint64(0), uint32(0xfffffff0), []byte("short"))
			return err
		}},
		{"a write at 2^63", func(c *conn) error {
			if err := c.create(91, "sizes"); err != nil {
				return fmt.Errorf("creat: %v", err)
			}
			_, err := c.do(tWrite, uint32(91), uint64(1<<63), uint32(5), []byte("there"))
			return err
		}},
		{"a write at 2^64-1", func(c *conn) error {
			if err := c.create(91, "sizes"); err != nil {
				return fmt.Errorf("creat: %v", err)
			}
			_, err := c.do(tWrite, uint32(91), uint64(1<<64-1), uint32(5), []byte("there"))
			return err
		}},
		{"a truncation to 2^63", func(c *conn) error {
			if err := c.create(91, "sizes"); err != nil {
				return fmt.Errorf("creat: %v", err)
			}
			_, err := c.do(tSetattr, uint32(91), uint32(8), uint32(0), uint32(0), uint32(0), uint64(1<<63), uint64(0), uint64(0), uint64(0), uint64(0))
			return err
		}},
		{"an attribute of 2^62 bytes", func(c *conn) error {
			if err := c.walk(rootFID, 92, "canary"); err != nil {
				return fmt.Errorf("walk: %v", err)
			}
			_, err := c.do(tXattrcreate, uint32(92), "user.huge", uint64(1<<62), uint32(0))
			return err
		}},
		{"an attribute for the host's programs", func(c *conn) error {
			if err := c.walk(rootFID, 92, "canary"); err != nil {
				return fmt.Errorf("walk: %v", err)
			}
			if _, err := c.do(tXattrcreate, uint32(92), "security.capability", uint64(20), uint32(0)); err != nil {
				return err
			}
			caps := []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
			if _, err := c.do(tWrite, uint32(92), uint64(0), uint32(20), caps); err != nil {
				return err
			}
			_, err := c.do(tClunk, uint32(92))
			return err
		}},
	} {
		if err := once(m.what, m.do); err != nil {
			return err
		}
	}
	// Counts that an honest server cuts to what fits.
	c, err := a.attach()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.walk(rootFID, 93, "canary"); err != nil {
		return err
	}
	if _, err := c.do(tLopen, uint32(93), uint32(0)); err != nil {
		return err
	}
	for _, offset := range []uint64{0, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		body, err := c.do(tRead, uint32(93), offset, uint32(0xffffffff))
		var r refusal
		if err != nil && !errors.As(err, &r) {
			return fmt.Errorf("read of 4 GiB at %d: %w", offset, err)
		}
		if len(body) > maxSize {
			a.broken("an answer of %d bytes where %d were agreed", len(body), maxSize)
		}
		a.refused++
	}
	if err := c.walk(rootFID, 94); err != nil {
		return err
	}
	if _, err := c.do(tLopen, uint32(94), uint32(unix.O_DIRECTORY)); err != nil {
		return err
	}
	for _, offset := range []uint64{0, 12345, 1 << 62, 1<<64 - 1} {
		if body, _ := c.do(tReaddir, uint32(94), offset, uint32(0xffffffff)); len(body) > maxSize {
			a.broken("a readdir of %d bytes where %d were agreed", len(body), maxSize)
		}
	}
	_, err = c.do(tUnlinkat, rootFID, "sizes", uint32(0))
	return err
}

// create makes fid an open file in the root.
func (c *conn) create(fid uint32, name string) error {
	if err := c.walk(rootFID, fid); err != nil {
		return err
	}
	_, err := c.do(tLcreate, fid, name, uint32(unix.O_RDWR|unix.O_TRUNC), uint32(0o644), uint32(0))
	return err
}

// fids uses fids that are nobody's, twice, too late, and for what they are not.
func (a *attacker) fids() error {
	c, err := a.attach()
	if err != nil {
		return err
	}
	defer func() { c.Close() }()
	stat := make([]byte, 52)
	for _, fid := range []uint32{1, 77, 0x7fffffff, 0x80000000, noFID} {
		for _, m := range []struct {
			what   string
			kind   uint8
			fields []any
		}{
			{"walk from", tWalk, []any{fid, uint32(100), uint16(0)}},
			{"getattr", tGetattr, []any{fid, uint64(0x7ff)}},
			{"setattr", tSetattr, []any{fid, uint32(0), stat}},
			{"statfs", tStatfs, []any{fid}},
			{"open", tLopen, []any{fid, uint32(0)}},
			{"create", tLcreate, []any{fid, "x", uint32(2), uint32(0o644), uint32(0)}},
			{"read", tRead, []any{fid, uint64(0), uint32(100)}},
			{"write", tWrite, []any{fid, uint64(0), uint32(1), []byte("x")}},
			{"readdir", tReaddir, []any{fid, uint64(0), uint32(100)}},
			{"readlink", tReadlink, []any{fid}},
			{"fsync", tFsync, []any{fid, uint32(0)}},
			{"clunk", tClunk, []any{fid}},
			{"remove", tRemove, []any{fid}},
			{"mkdir", tMkdir, []any{fid, "x", uint32(0o755), uint32(0)}},
			{"unlinkat", tUnlinkat, []any{fid, "canary", uint32(0)}},
			{"renameat", tRenameat, []any{rootFID, "canary", fid, "x"}},
			{"rename", tRename, []any{fid, rootFID, "x"}},
			{"link", tLink, []any{rootFID, fid, "x"}},
			{"lock", tLock, []any{fid, uint8(1), uint32(0), uint64(0), uint64(0), uint32(1), "me"}},
			{"getlock", tGetlock, []any{fid, uint8(1), uint64(0), uint64(0), uint32(1), "me"}},
			{"xattrwalk", tXattrwalk, []any{fid, uint32(100), "user.x"}},
		} {
			if c, err = c.refusesAndLives(fmt.Sprintf("%s of fid %#x", m.what, fid), m.kind, m.fields...); err != nil {
				return err
			}
		}
	}
	for _, step := range []struct {
		what string
		must bool // succeed
		do   func() error
	}{
		{"walk", true, func() error { return c.walk(rootFID, 101, "canary") }},
		{"a fid twice", false, func() error { return c.walk(rootFID, 101, "canary") }},
		{"read of what is not open", false, func() error { _, err := c.do(tRead, uint32(101), uint64(0), uint32(9)); return err }},
		{"open", true, func() error { _, err := c.do(tLopen, uint32(101), uint32(unix.O_RDONLY)); return err }},
		{"open of what is open", false, func() error { _, err := c.do(tLopen, uint32(101), uint32(unix.O_RDWR)); return err }},
		{"write to what is open for reading", false, func() error {
			_, err := c.do(tWrite, uint32(101), uint64(0), uint32(3), []byte("bad"))
			return err
		}},
		{"readdir of a file", false, func() error { _, err := c.do(tReaddir, uint32(101), uint64(0), uint32(99)); return err }},
		{"creat in a file", false, func() error {
			_, err := c.do(tLcreate, uint32(101), "x", uint32(2), uint32(0o644), uint32(0))
			return err
		}},
		{"attach to a fid in use", false, func() error {
			_, err := c.do(tAttach, uint32(101), uint32(noFID), "root", "", uint32(0))
			return err
		}},
		{"attach elsewhere", false, func() error {
			_, err := c.do(tAttach, uint32(102), uint32(noFID), "root", "../outside", uint32(0))
			return err
		}},
		{"auth", false, func() error { _, err := c.do(tAuth, uint32(103), "root", "", uint32(0)); return err }},
		{"clunk", true, func() error { _, err := c.do(tClunk, uint32(101)); return err }},
		{"clunk twice", false, func() error { _, err := c.do(tClunk, uint32(101)); return err }},
		{"getattr after clunk", false, func() error { _, err := c.do(tGetattr, uint32(101), uint64(0x7ff)); return err }},
		{"flush of nothing", true, func() error { _, err := c.do(tFlush, uint16(4242)); return err }},
	} {
		if !step.must {
			c.refusesRaw(step.what, step.do)
		} else if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// manyFIDs keeps 10,000 fids, and opens as many files. The server may refuse at
// some number and must take back all that was used with the connection.
func (a *attacker) manyFIDs() error {
	const many = 10_000
	for round := range 2 {
		c, err := a.attach()
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		got, opened := 0, 0
		for fid := uint32(1); fid <= many; fid++ {
			err := c.walk(rootFID, fid, "canary")
			if err == nil {
				got++
				if _, err = c.do(tLopen, fid, uint32(unix.O_RDWR)); err == nil {
					opened++
				}
			}
			var r refusal
			if err != nil {
				if !errors.As(err, &r) {
					c.Close()
					return fmt.Errorf("fid %d: %w", fid, err)
				}
				a.refused++
			}
		}
		// The server's limits are what the host gives it; a guest needs some.
		if got < 200 || opened < 100 {
			a.broken("only %d fids and %d open files", got, opened)
		}
		if _, err := c.do(tGetattr, rootFID, uint64(0x7ff)); err != nil {
			return fmt.Errorf("with %d fids: %w", got, err)
		}
		fmt.Printf("  %d fids, %d open files\n", got, opened)
		c.Close()
	}
	return nil
}

// manyConnections has 300 connections at once, each to the same volume.
func (a *attacker) manyConnections() error {
	var all []*conn
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	for range 300 {
		c, err := a.attachOnce()
		if err != nil {
			a.refused++
			continue
		}
		all = append(all, c)
	}
	fmt.Printf("  %d connections\n", len(all))
	return nil
}

// noise sends messages of every type with bodies that are random, and some that
// are cut. The numbers are the same each time.
func (a *attacker) noise() error {
	random := rand.New(rand.NewPCG(1, 9))
	c, err := a.attach()
	if err != nil {
		return err
	}
	defer func() { c.Close() }()
	for i := range 3000 {
		kind := uint8(random.Uint32())
		if kind == tVersion || kind == tClunk || kind == tRemove {
			continue // these end the fid that the others use, by design
		}
		body := make([]byte, random.IntN(80))
		for i := range body {
			body[i] = byte(random.Uint32())
		}
		// Half of them begin with a fid that is there.
		if random.IntN(2) == 0 && len(body) >= 4 {
			binary.LittleEndian.PutUint32(body, rootFID)
		}
		if _, err := c.raw(message(kind, uint16(i)&0x7fff, body)); err == nil {
			continue
		} else if !errors.Is(err, errClosed) {
			var r refusal
			if !errors.As(err, &r) {
				return fmt.Errorf("message %d of type %d: %w", i, kind, err)
			}
			a.refused++
			continue
		}
		a.refused++
		c.Close()
		if c, err = a.attach(); err != nil {
			return fmt.Errorf("after message %d of type %d: %w", i, kind, err)
		}
	}
	return nil
}
