package ninep

import (
	"context"
	"hash/fnv"
	"math"
	"syscall"
	"time"

	"bake/internal/service/files/tree"
)

// Types, flags and answers of Tlock (P9_LOCK_*).
const (
	lockRead  = 0
	lockWrite = 1
	lockNone  = 2

	lockBlock   = 1
	lockReclaim = 2

	lockSuccess = 0
	lockBlocked = 1
)

// span fills in which bytes and whose.
func span(start, length uint64, pid uint32, client string) (tree.Lock, error) {
	l := tree.Lock{Start: start, End: math.MaxInt64, PID: pid}
	if length > 0 {
		l.End = start + length - 1
		if l.End < start || l.End > math.MaxInt64 {
			return l, syscall.EOVERFLOW
		}
	}
	if start > math.MaxInt64 {
		return l, syscall.EINVAL
	}
	h := fnv.New32a()
	h.Write([]byte(client))
	l.Owner = uint64(h.Sum32())<<32 | uint64(pid)
	return l, nil
}

// lock sets or takes away a lock: fid[4] type[1] flags[4] start[8] length[8]
// proc_id[4] client_id[s].
func (w *worker) lock(d *decoder) ([]byte, error) {
	n, kind, flags := d.u32(), d.u8(), d.u32()
	start, length, pid, client := d.u64(), d.u64(), d.u32(), d.str()
	if !d.end() {
		return nil, errMalformed
	}
	l, err := span(start, length, pid, client)
	if err != nil {
		return nil, err
	}
	switch kind {
	case lockRead:
		l.Type = tree.ReadLock
	case lockWrite:
		l.Type = tree.WriteLock
	case lockNone:
		l.Type = tree.Unlock
	default:
		return nil, syscall.EINVAL
	}
	if flags&^(lockBlock|lockReclaim) != 0 {
		return nil, syscall.EINVAL
	}
	f, err := w.fid(n)
	if err != nil {
		return nil, err
	}
	h, err := f.open()
	if err == nil {
		err = w.locks.Set(h, l)
	}
	if err == syscall.EAGAIN && flags&lockBlock != 0 && w.waits.Add(1) <= int32(w.limits.LockWaits) {
		w.wg.Add(1)
		go w.conn.awaitLock(w.tag, f, h, l)
		return nil, errLater
	} else if err == syscall.EAGAIN && flags&lockBlock != 0 {
		w.waits.Add(-1)
	}
	w.put(f)
	return w.lockAnswer(err)
}

func (w *worker) lockAnswer(err error) ([]byte, error) {
	e := w.start()
	switch err {
	case nil:
		e.u8(lockSuccess)
	case syscall.EAGAIN:
		e.u8(lockBlocked)
	default:
		return nil, err
	}
	return w.done(e), nil
}

// awaitLock tries until it has the lock, the request is flushed, or it is time
// to say that it did not work. There is no way to wait in the kernel that
// could be given up.
func (c *conn) awaitLock(tag uint16, f *fid, h *tree.Handle, l tree.Lock) {
	defer c.wg.Done()
	defer c.waits.Add(-1)
	defer c.put(f)
	ctx, cancel := context.WithTimeout(c.ctx, c.limits.LockWait)
	defer cancel()
	flushed := c.cancellation(tag)
	pause := time.Millisecond
	timer := time.NewTimer(pause)
	defer timer.Stop()
	err := error(syscall.EAGAIN)
	for err == syscall.EAGAIN && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-flushed:
			cancel()
		case <-timer.C:
			err = c.locks.Set(h, l)
			pause = min(2*pause, 50*time.Millisecond)
			timer.Reset(pause)
		}
	}
	w := worker{conn: c, message: message{kind: tLock, tag: tag}}
	out, err := w.lockAnswer(err)
	if err != nil {
		out = w.fail(err)
	}
	c.reply(tag, out)
}

// getlock says what is in the way of a lock: fid[4] type[1] start[8] length[8]
// proc_id[4] client_id[s], and so is the reply.
func (w *worker) getlock(d *decoder) ([]byte, error) {
	n, kind := d.u32(), d.u8()
	start, length, pid, client := d.u64(), d.u64(), d.u32(), d.str()
	if !d.end() {
		return nil, errMalformed
	}
	l, err := span(start, length, pid, client)
	if err != nil {
		return nil, err
	}
	// The kernel's client always says lockNone; then it is about any lock.
	l.Type = tree.WriteLock
	if kind == lockRead {
		l.Type = tree.ReadLock
	}
	f, err := w.fid(n)
	if err != nil {
		return nil, err
	}
	defer w.put(f)
	h, err := f.open()
	if err != nil {
		return nil, err
	}
	found, err := w.locks.Get(h, l)
	if err != nil {
		return nil, err
	}
	e := w.start()
	switch found.Type {
	case tree.ReadLock:
		e.u8(lockRead)
	case tree.WriteLock:
		e.u8(lockWrite)
	default:
		e.u8(lockNone)
		e.u64(start)
		e.u64(length)
		e.u32(pid)
		e.str(clientID(client))
		return w.done(e), nil
	}
	e.u64(found.Start)
	if found.End == math.MaxInt64 {
		e.u64(0)
	} else {
		e.u64(found.End - found.Start + 1)
	}
	e.u32(found.PID)
	e.str(clientID(client))
	return w.done(e), nil
}

// clientID is what is said back of a client's name: all of a sensible one.
func clientID(s string) string { return s[:min(len(s), 256)] }
