//go:build linux

package virtiofs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"bake/internal/service/files/tree"
)

// as reads a struct of the protocol.
func as[T any](t testing.TB, b []byte) T {
	t.Helper()
	var v T
	if len(b) < int(unsafe.Sizeof(v)) {
		t.Fatalf("%d bytes are no %T", len(b), v)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), b)
	return v
}

func (s *server) lookup(t testing.TB, dir uint64, name string) fuse.EntryOut {
	t.Helper()
	b, err := s.ask(t, message(opLookup, dir, fuse.InHeader{}, name+"\x00"))
	if err != 0 {
		t.Fatalf("look %s up: %v", name, err)
	}
	return as[fuse.EntryOut](t, b)
}

func (s *server) getattr(t testing.TB, node uint64) (fuse.AttrOut, syscall.Errno) {
	t.Helper()
	b, err := s.ask(t, message(opGetattr, node, fuse.GetAttrIn{}))
	if err != 0 {
		return fuse.AttrOut{}, err
	}
	return as[fuse.AttrOut](t, b), 0
}

// What is negotiated with a kernel that offers everything.
func TestInit(t *testing.T) {
	s, _ := testServer(t, Options{}, tree.Options{})
	b, err := s.ask(t, initMessage())
	if err != 0 {
		t.Fatal(err)
	}
	out := as[fuse.InitOut](t, b)
	if out.Major != 7 || out.MaxWrite != maxWrite || int(out.MaxPages)*os.Getpagesize() < maxWrite {
		t.Errorf("version %d, max_write %d, max_pages %d", out.Major, out.MaxWrite, out.MaxPages)
	}
	flags := out.Flags64()
	for name, f := range map[string]uint64{
		"ASYNC_READ": fuse.CAP_ASYNC_READ, "POSIX_LOCKS": fuse.CAP_POSIX_LOCKS, "FLOCK_LOCKS": fuse.CAP_FLOCK_LOCKS,
		"ATOMIC_O_TRUNC": fuse.CAP_ATOMIC_O_TRUNC, "AUTO_INVAL_DATA": fuse.CAP_AUTO_INVAL_DATA, "PARALLEL_DIROPS": fuse.CAP_PARALLEL_DIROPS,
		"READDIRPLUS": fuse.CAP_READDIRPLUS, "READDIRPLUS_AUTO": fuse.CAP_READDIRPLUS_AUTO, "POSIX_ACL": fuse.CAP_POSIX_ACL,
		"DONT_MASK": fuse.CAP_DONT_MASK, "HANDLE_KILLPRIV_V2": fuse.CAP_HANDLE_KILLPRIV_V2, "DIRECT_IO_ALLOW_MMAP": fuse.CAP_DIRECT_IO_ALLOW_MMAP,
	} {
		if flags&f == 0 {
			t.Errorf("%s is not negotiated", name)
		}
	}
	for name, f := range map[string]uint64{
		"WRITEBACK_CACHE": fuse.CAP_WRITEBACK_CACHE, "NO_OPEN_SUPPORT": fuse.CAP_NO_OPEN_SUPPORT, "NO_OPENDIR_SUPPORT": fuse.CAP_NO_OPENDIR_SUPPORT,
		"SETXATTR_EXT": fuse.CAP_SETXATTR_EXT, "SECURITY_CTX": fuse.CAP_SECURITY_CTX, "SUBMOUNTS": fuse.CAP_SUBMOUNTS,
		"PASSTHROUGH": fuse.CAP_PASSTHROUGH, "HANDLE_KILLPRIV": fuse.CAP_HANDLE_KILLPRIV,
	} {
		if flags&f != 0 {
			t.Errorf("%s is negotiated", name)
		}
	}
	squashed, _ := testServer(t, Options{}, tree.Options{Squash: true})
	if b, err = squashed.ask(t, initMessage()); err != 0 {
		t.Fatal(err)
	}
	squashedOut := as[fuse.InitOut](t, b)
	if flags := squashedOut.Flags64(); flags&fuse.CAP_POSIX_ACL != 0 {
		t.Error("ACLs whose owners mean something else on the host")
	}
}

func TestUnknownCache(t *testing.T) {
	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	shared, err := tree.Open(root, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	if _, err := newServer(shared, Options{Cache: "sometimes"}); err == nil {
		t.Error("an unknown cache mode is taken")
	}
}

// Requests that are refused before go-fuse sees them.
func TestRefused(t *testing.T) {
	s, _ := testServer(t, Options{}, tree.Options{})
	short := message(opOpen, 1, fuse.InHeader{})
	old := fuse.InitIn{Major: 7, Minor: oldestMinor - 1}
	for name, test := range map[string]struct {
		in   []byte
		want syscall.Errno
	}{
		"unknown":      {message(4711, 1, fuse.InHeader{}), syscall.ENOSYS},
		"tmpfile":      {message(51, 1, fuse.CreateIn{}, "/\x00"), syscall.ENOSYS},
		"short":        {short, syscall.EINVAL},
		"too long":     {append(message(opLookup, 1, fuse.InHeader{}), make([]byte, maxRequest)...), syscall.EINVAL},
		"huge read":    {message(opRead, 1, fuse.ReadIn{Fh: 1, Size: 1<<32 - 1}), syscall.EINVAL},
		"huge value":   {message(opGetxattr, 1, fuse.GetXAttrIn{Size: 1<<32 - 1}, "user.x\x00"), syscall.EINVAL},
		"another":      {message(opInit, 0, fuse.InitIn{Major: 8}), syscall.EPROTO},
		"old":          {message(opInit, 0, old), syscall.EPROTO},
		"no such node": {message(opGetattr, 99, fuse.GetAttrIn{}), syscall.ESTALE},
		"no such file": {message(opRead, 1, fuse.ReadIn{Fh: 99, Size: 1}), syscall.EBADF},
		"parent":       {message(opLookup, 1, fuse.InHeader{}, "..\x00"), syscall.EINVAL},
		"wrong size":   {message(opSetxattr, 1, fuse.InHeader{}, "\x05\x00\x00\x00\x00\x00\x00\x00user.x\x00y"), syscall.EINVAL},
	} {
		if _, err := s.ask(t, test.in); err != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if n := s.handle(t.Context(), 0, [][]byte{make([]byte, headerSize-1)}, nil); n != 0 {
		t.Errorf("half a header is answered with %d bytes", n)
	}
}

// sync(2) in the guest is passed on, and is no error where nothing can be
// written.
func TestSyncfs(t *testing.T) {
	for _, o := range []tree.Options{{}, {ReadOnly: true}} {
		s, _ := testServer(t, Options{}, o)
		if b, err := s.ask(t, message(opSyncfs, 1, fuse.InHeader{}, "12345678")); err != 0 || len(b) != 0 {
			t.Errorf("%+v: %d bytes and %v", o, len(b), err)
		}
		if _, err := s.ask(t, message(opSyncfs, 1, fuse.InHeader{})); err != syscall.EINVAL {
			t.Errorf("%+v: a short one: %v", o, err)
		}
	}
}

// An object has one number, however it is met, until it is forgotten as often
// as it was met.
func TestNumbers(t *testing.T) {
	s, dir := testServer(t, Options{}, tree.Options{})
	if err := os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "g")); err != nil {
		t.Fatal(err)
	}
	f, g, d := s.lookup(t, 1, "f"), s.lookup(t, 1, "g"), s.lookup(t, 1, "d")
	if f.NodeId != g.NodeId || f.NodeId == d.NodeId || f.NodeId == 1 {
		t.Errorf("numbers %d and %d of one file, %d of another", f.NodeId, g.NodeId, d.NodeId)
	}
	s.fs.Forget(f.NodeId, 1)
	if _, err := s.getattr(t, f.NodeId); err != 0 {
		t.Errorf("forgotten once of twice: %v", err)
	}
	s.fs.Forget(f.NodeId, 1)
	if _, err := s.getattr(t, f.NodeId); err != syscall.ESTALE {
		t.Errorf("forgotten: %v", err)
	}
	if again := s.lookup(t, 1, "f"); again.NodeId == f.NodeId {
		t.Error("a number is used again")
	}
	s.fs.Forget(1, 1<<63) // the root stays
	s.fs.Forget(d.NodeId, 1<<63)
	if _, err := s.getattr(t, 1); err != 0 {
		t.Errorf("the root: %v", err)
	}
}

// Files that were met long ago have no descriptor, and are found again.
func TestDescriptors(t *testing.T) {
	const files, descriptors = 100, 10
	s, dir := testServer(t, Options{Descriptors: descriptors}, tree.Options{MaxNodes: descriptors + 8})
	numbers := map[string]uint64{}
	name := func(i int) string { return fmt.Sprintf("file%d", i) }
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, name(i)), make([]byte, i), 0o644); err != nil {
			t.Fatal(err)
		}
		numbers[name(i)] = s.lookup(t, 1, name(i)).NodeId
	}
	open, err := s.ask(t, message(opOpen, numbers[name(3)], fuse.OpenIn{Flags: syscall.O_RDWR}))
	if err != 0 {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, name(3))); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		a, err := s.getattr(t, numbers[name(i)])
		if err != 0 || a.Size != uint64(i) {
			t.Errorf("file %d: %d bytes, %v", i, a.Size, err)
		}
		if n := s.fs.nodes.open.Len(); n > descriptors {
			t.Errorf("%d descriptors", n)
		}
	}
	// The one that is open keeps its own, though it has no name any more.
	if a, err := s.getattr(t, numbers[name(3)]); err != 0 || a.Nlink != 0 {
		t.Errorf("the file that is open: %d links, %v", a.Nlink, err)
	}
	fh := as[fuse.OpenOut](t, open).Fh
	s.ask(t, message(opRelease, numbers[name(3)], fuse.ReleaseIn{Fh: fh}))

	// Another file by the same name is not the one that was met, and one that
	// was renamed is found by its new name, with its old number.
	for _, i := range []int{5, 6} {
		if err := os.Rename(filepath.Join(dir, name(i)), filepath.Join(dir, name(i)+"-moved")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, name(5)), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range files { // those are out of use by then
		if i != 5 && i != 6 && i != 3 {
			s.getattr(t, numbers[name(i)])
		}
	}
	for _, i := range []int{5, 6} {
		if _, err := s.getattr(t, numbers[name(i)]); err != syscall.ESTALE {
			t.Errorf("file %d, which was renamed: %v", i, err)
		}
		if got := s.lookup(t, 1, name(i)+"-moved").NodeId; got != numbers[name(i)] {
			t.Errorf("file %d, which was renamed, has the number %d, not %d", i, got, numbers[name(i)])
		}
		if _, err := s.getattr(t, numbers[name(i)]); err != 0 {
			t.Errorf("file %d, which was looked up anew: %v", i, err)
		}
	}
}

// Objects beyond the limit are refused.
func TestTooManyObjects(t *testing.T) {
	s, _ := testServer(t, Options{}, tree.Options{})
	s.fs.nodes.max = 2 // with the root
	f := s.lookup(t, 1, "f")
	if _, err := s.ask(t, message(opLookup, 1, fuse.InHeader{}, "d\x00")); err != syscall.ENFILE {
		t.Errorf("one too many: %v", err)
	}
	s.fs.Forget(f.NodeId, 1)
	s.lookup(t, 1, "d")
}

// A mount that begins anew has nothing of the one before.
func TestMountedAgain(t *testing.T) {
	s, _ := testServer(t, Options{}, tree.Options{})
	f := s.lookup(t, 1, "f")
	if _, err := s.ask(t, message(opOpen, f.NodeId, fuse.OpenIn{Flags: syscall.O_RDWR})); err != 0 {
		t.Fatal(err)
	}
	if _, err := s.ask(t, initMessage()); err != 0 {
		t.Fatal(err)
	}
	if _, err := s.getattr(t, f.NodeId); err != syscall.ESTALE {
		t.Errorf("a node of the mount before: %v", err)
	}
	if _, err := s.ask(t, message(opRead, f.NodeId, fuse.ReadIn{Fh: 1, Size: 10})); err != syscall.EBADF {
		t.Errorf("a handle of the mount before: %v", err)
	}
}

// The beginning of a request is a copy; what follows is the guest's.
func TestOwn(t *testing.T) {
	write := message(opWrite, 1, fuse.WriteIn{Fh: 5, Size: 600}, strings.Repeat("d", 600))
	lookup := message(opLookup, 1, fuse.InHeader{}, strings.Repeat("n", 400)+"\x00")
	for _, whole := range [][]byte{write, lookup, lookup[:headerSize], lookup[:headerSize+1]} {
		for _, cut := range []int{0, 1, 16, headerSize, 80, 81, 383, 384, 385, 500} {
			guest := slices.Clone(whole)
			in, h, ok := own(split(guest, cut))
			if !ok || h.unique != 77 {
				t.Fatalf("%d bytes cut at %d: header %+v, %v", len(whole), cut, h, ok)
			}
			if got := slices.Concat(in...); !bytes.Equal(got, whole) {
				t.Errorf("%d bytes cut at %d: not what was sent", len(whole), cut)
			}
			clear(guest)
			fixed := min(len(whole), ownSize)
			if h.opcode == opWrite {
				fixed = int(structSizes[opWrite])
			}
			if got := slices.Concat(in...); !bytes.Equal(got[:fixed], whole[:fixed]) || len(in[0]) != fixed {
				t.Errorf("%d bytes cut at %d: the guest can change what was looked at", len(whole), cut)
			}
		}
	}
	if _, _, ok := own([][]byte{make([]byte, headerSize-1)}); ok {
		t.Error("half a header")
	}
	for n := range 12 {
		if got := length(first([][]byte{make([]byte, 3), make([]byte, 4), make([]byte, 3)}, n)); got != min(n, 10) {
			t.Errorf("the first %d bytes are %d", n, got)
		}
	}
}
