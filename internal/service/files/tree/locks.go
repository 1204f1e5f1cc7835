package tree

import (
	"math"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A LockType is what a lock keeps others from.
type LockType uint8

// The types, each stronger than the one before.
const (
	Unlock LockType = iota
	ReadLock
	WriteLock
)

// A Lock is a lock of the bytes Start to End (inclusive; math.MaxInt64: to the
// end of the file, however it grows).
type Lock struct {
	Type       LockType
	Start, End uint64
	Owner      uint64 // who holds it: a process of the guest
	PID        uint32 // told to who asks what is in the way
}

// Locks are the record locks of one guest (fcntl(2), F_SETLK): an owner's locks
// are one set for each file, whatever handle they were made with.
//
// Towards the host they are locks of an open file description of their own,
// one for each file, that covers what any owner in the guest has locked: so
// they keep out programs of the host and other guests, and are kept out by
// them, also those that use fcntl without OFD. A file that the server may only
// read is locked for reading there, as the host's kernel has no more.
type Locks struct {
	arbitrate bool
	max       int

	mu      sync.Mutex
	files   map[ID]*lockedFile
	records int
}

type lockedFile struct {
	fd      int
	write   bool // fd can be locked for writing
	read    bool
	records []lockRecord
}

type lockRecord struct {
	Lock
	handle *Handle
}

// NewLocks makes an empty set that holds up to max locks (ENOLCK beyond).
// arbitrate is for protocols whose guest leaves it to the server to keep its
// own processes apart; with 9P the guest's kernel has done it before it asks.
func NewLocks(arbitrate bool, max int) *Locks {
	return &Locks{arbitrate: arbitrate, max: max, files: make(map[ID]*lockedFile)}
}

func (l *Lock) check() error {
	if l.Start > l.End || l.End > math.MaxInt64 || l.Type > WriteLock {
		return syscall.EINVAL
	}
	return nil
}

func (l *Lock) overlaps(m *Lock) bool { return l.Start <= m.End && m.Start <= l.End }

// conflict is the record of another owner that is in the way of l.
func (f *lockedFile) conflict(l *Lock) *lockRecord {
	for i := range f.records {
		r := &f.records[i]
		if r.Owner != l.Owner && r.overlaps(l) && (r.Type == WriteLock || l.Type == WriteLock) {
			return r
		}
	}
	return nil
}

// Set sets a lock, changes its type or takes it away; EAGAIN if another holds
// one that is in the way. It never waits.
func (s *Locks) Set(h *Handle, l Lock) error {
	if err := l.check(); err != nil {
		return err
	}
	if err := h.enter(unix.S_IFREG, 0); err != nil {
		return err
	}
	defer h.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[h.node.id]
	if f == nil {
		if l.Type == Unlock {
			return nil
		}
		var err error
		if f, err = h.node.openLocked(); err != nil {
			return errno(err)
		}
		s.files[h.node.id] = f
	}
	defer s.tidy(h.node.id, f)
	if l.Type != Unlock && s.arbitrate && f.conflict(&l) != nil {
		return syscall.EAGAIN
	}
	before := f.records
	after := carve(before, func(r *lockRecord) bool { return r.Owner == l.Owner }, &l)
	if l.Type != Unlock {
		if s.records+len(after)+1-len(before) > s.max {
			return syscall.ENOLCK
		}
		after = append(after, lockRecord{l, h})
	}
	f.records = after
	if err := f.apply(l.Start, l.End); err != nil {
		f.records = before
		f.apply(l.Start, l.End) // what was there is weaker and cannot fail
		return errno(err)
	}
	s.records += len(after) - len(before)
	return nil
}

// Release takes away what was locked through h, which is about to be closed.
func (s *Locks) Release(h *Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[h.node.id]
	if f == nil {
		return
	}
	before := f.records
	f.records = slices.DeleteFunc(slices.Clone(before), func(r lockRecord) bool { return r.handle == h })
	s.records -= len(before) - len(f.records)
	for i := range before {
		if before[i].handle == h {
			f.apply(before[i].Start, before[i].End)
		}
	}
	s.tidy(h.node.id, f)
}

// ReleaseOwner takes away all locks of an owner in the file of h, as a process
// does that closes any descriptor of a file.
func (s *Locks) ReleaseOwner(h *Handle, owner uint64) error {
	return s.Set(h, Lock{Type: Unlock, End: math.MaxInt64, Owner: owner})
}

// Get says what is in the way of l: a lock of type Unlock if nothing is.
func (s *Locks) Get(h *Handle, l Lock) (Lock, error) {
	if err := l.check(); err != nil {
		return Lock{}, err
	}
	if l.Type == Unlock {
		return Lock{}, syscall.EINVAL
	}
	if err := h.enter(unix.S_IFREG, 0); err != nil {
		return Lock{}, err
	}
	defer h.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[h.node.id]
	if f != nil && s.arbitrate {
		if r := f.conflict(&l); r != nil {
			return r.Lock, nil
		}
	}
	if f == nil {
		var err error
		if f, err = h.node.openLocked(); err != nil {
			return Lock{}, errno(err)
		}
		defer unix.Close(f.fd)
	}
	fl := hostLock(l.Type, l.Start, l.End)
	if err := unix.FcntlFlock(uintptr(f.fd), getLock, &fl); err != nil {
		return Lock{}, errno(err)
	}
	found := Lock{Start: uint64(fl.Start), End: math.MaxInt64}
	switch fl.Type {
	case unix.F_RDLCK:
		found.Type = ReadLock
	case unix.F_WRLCK:
		found.Type = WriteLock
	default:
		l.Type = Unlock
		return l, nil
	}
	if fl.Len > 0 {
		found.End = found.Start + uint64(fl.Len) - 1
	}
	if fl.Pid > 0 {
		found.PID = uint32(fl.Pid)
	}
	return found, nil
}

// Close gives up everything.
func (s *Locks) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, f := range s.files {
		unix.Close(f.fd)
		delete(s.files, id)
	}
	s.records = 0
}

func (s *Locks) tidy(id ID, f *lockedFile) {
	if len(f.records) == 0 {
		unix.Close(f.fd)
		delete(s.files, id)
	}
}

// openLocked opens the file for locking, with as much access as there is.
func (n *Node) openLocked() (*lockedFile, error) {
	if !n.t.o.ReadOnly {
		if fd, err := n.reopen(unix.O_RDWR); err == nil {
			return &lockedFile{fd: fd, write: true, read: true}, nil
		}
	}
	fd, err := n.reopen(unix.O_RDONLY)
	if err == nil {
		return &lockedFile{fd: fd, read: true}, nil
	}
	if !n.t.o.ReadOnly {
		if fd, err := n.reopen(unix.O_WRONLY); err == nil {
			return &lockedFile{fd: fd, write: true}, nil
		}
	}
	return nil, err
}

// carve takes the bytes of l out of the records that match.
func carve(records []lockRecord, match func(*lockRecord) bool, l *Lock) []lockRecord {
	after := make([]lockRecord, 0, len(records)+2)
	for i := range records {
		r := records[i]
		if !match(&r) || !r.overlaps(l) {
			after = append(after, r)
			continue
		}
		if r.Start < l.Start {
			left := r
			left.End = l.Start - 1
			after = append(after, left)
		}
		if r.End > l.End {
			right := r
			right.Start = l.End + 1
			after = append(after, right)
		}
	}
	return after
}

// apply makes the host's locks of the bytes from start to end what the records
// say: in each part the strongest of them.
func (f *lockedFile) apply(start, end uint64) error {
	cuts := []uint64{start, end + 1}
	for i := range f.records {
		for _, c := range [2]uint64{f.records[i].Start, f.records[i].End + 1} {
			if c > start && c <= end {
				cuts = append(cuts, c)
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	from, kind := start, LockType(math.MaxUint8)
	for i := 0; i+1 < len(cuts); i++ {
		strongest := Unlock
		for j := range f.records {
			if r := &f.records[j]; r.Start <= cuts[i] && cuts[i] <= r.End {
				strongest = max(strongest, r.Type)
			}
		}
		if strongest == kind {
			continue
		}
		if i > 0 {
			if err := f.set(kind, from, cuts[i]-1); err != nil {
				return err
			}
		}
		from, kind = cuts[i], strongest
	}
	return f.set(kind, from, end)
}

func (f *lockedFile) set(t LockType, start, end uint64) error {
	switch {
	case t == WriteLock && !f.write:
		t = ReadLock
	case t == ReadLock && !f.read:
		t = WriteLock
	}
	fl := hostLock(t, start, end)
	for {
		err := unix.FcntlFlock(uintptr(f.fd), setLock, &fl)
		switch err {
		case unix.EINTR:
			continue
		case unix.EACCES:
			return syscall.EAGAIN // the other name of it in fcntl(2)
		}
		return err
	}
}

func hostLock(t LockType, start, end uint64) unix.Flock_t {
	fl := unix.Flock_t{Start: int64(start), Whence: 0}
	switch t {
	case Unlock:
		fl.Type = unix.F_UNLCK
	case ReadLock:
		fl.Type = unix.F_RDLCK
	case WriteLock:
		fl.Type = unix.F_WRLCK
	}
	if end < math.MaxInt64 {
		fl.Len = int64(end-start) + 1
	}
	return fl
}

// Flock locks the whole file for this handle, as flock(2) does, apart from the
// locks of fcntl; EAGAIN if another handle or program is in the way.
func (h *Handle) Flock(t LockType) error {
	if !h.acquire() {
		return syscall.EBADF
	}
	defer h.release()
	if h.fd < 0 {
		return nil
	}
	how := unix.LOCK_NB
	switch t {
	case Unlock:
		how |= unix.LOCK_UN
	case ReadLock:
		how |= unix.LOCK_SH
	case WriteLock:
		how |= unix.LOCK_EX
	default:
		return syscall.EINVAL
	}
	for {
		err := unix.Flock(h.fd, how)
		if err == unix.EINTR {
			continue
		}
		return errno(err)
	}
}
