//go:build linux

package virtiofs

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"bake/internal/service/files/tree"
)

// testServer serves a directory with a file and a directory in it.
func testServer(t testing.TB, o Options, to tree.Options) (*server, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shared")
	if err := os.MkdirAll(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("contents"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	shared, err := tree.Open(root, to)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(shared, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.fs.close()
		shared.Close()
	})
	return s, dir
}

// bytesOf is a struct of the protocol as it is in a message.
func bytesOf[T any](v *T) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))...)
}

// message is a request: the struct in, whose header says what it is, and more.
func message[T any](opcode uint32, node uint64, in T, more ...string) []byte {
	b := bytesOf(&in)
	for _, s := range more {
		b = append(b, s...)
	}
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(len(b)))
	le.PutUint32(b[4:], opcode)
	le.PutUint64(b[8:], 77)
	le.PutUint64(b[16:], node)
	return b
}

// ask has a request handled, and returns the answer behind its header.
func (s *server) ask(t testing.TB, in []byte) ([]byte, syscall.Errno) {
	t.Helper()
	out := make([]byte, 1<<16)
	n := s.handle(context.Background(), 1, [][]byte{in}, [][]byte{out})
	if n == 0 {
		return nil, 0
	}
	le := binary.LittleEndian
	if n < outHeaderSize || int(le.Uint32(out)) != n || le.Uint64(out[8:]) != 77 {
		t.Fatalf("an answer of %d bytes: %x", n, out[:min(n, 32)])
	}
	return out[outHeaderSize:n], syscall.Errno(-int32(le.Uint32(out[4:])))
}

func initMessage() []byte {
	in := fuse.InitIn{Major: 7, Minor: 41, MaxReadAhead: 1 << 17, Flags: ^uint32(0), Flags2: ^uint32(0)}
	return message(opInit, 0, in)
}

// FuzzMessages handles whatever a guest may send: the messages in script, each
// behind its length (16 bits). The parts of a request and of its answer are cut
// where cut says. Nothing outside of the shared directory may change.
func FuzzMessages(f *testing.F) {
	join := func(messages ...[]byte) []byte {
		var b []byte
		for _, m := range messages {
			b = binary.LittleEndian.AppendUint16(b, uint16(len(m)))
			b = append(b, m...)
		}
		return b
	}
	header := fuse.InHeader{}
	f.Add(join(initMessage(),
		message(opLookup, 1, header, "f\x00"),
		message(opOpen, 2, fuse.OpenIn{Flags: 2}),
		message(opWrite, 2, fuse.WriteIn{Fh: 1, Size: 3}, "abc"),
		message(opRead, 2, fuse.ReadIn{Fh: 1, Size: 100}),
		message(opSetlk, 2, fuse.LkIn{Fh: 1, Lk: fuse.FileLock{End: 1<<63 - 1, Typ: 1}}),
		message(opFlush, 2, fuse.FlushIn{Fh: 1}),
		message(opRelease, 2, fuse.ReleaseIn{Fh: 1}),
		message(opForget, 2, fuse.ForgetIn{Nlookup: 1}),
	), uint16(40))
	f.Add(join(initMessage(),
		message(opLookup, 1, header, "..\x00"),
		message(opLookup, 1, header, "../../etc/passwd\x00"),
		message(opSymlink, 1, header, "l\x00/etc\x00"),
		message(opMkdir, 1, fuse.MkdirIn{Mode: 0o777}, "../x\x00"),
		message(opRename2, 1, fuse.RenameIn{Newdir: 1}, "d\x00../d\x00"),
		message(opLink, 1, fuse.LinkIn{Oldnodeid: 9}, "n\x00"),
		message(opMknod, 1, fuse.MknodIn{Mode: syscall.S_IFCHR}, "c\x00"),
		message(opSetxattr, 1, fuse.SetXAttrIn{Size: 1}, "user.x\x00y"),
	), uint16(7))
	f.Add(join(initMessage(),
		message(opOpendir, 1, fuse.OpenIn{}),
		message(opReaddirplus, 1, fuse.ReadIn{Fh: 1, Size: 4096}),
		message(opReaddir, 1, fuse.ReadIn{Fh: 1, Size: 1 << 31}),
		message(opBatchForget, 0, fuse.ForgetIn{Nlookup: 1 << 40}, "x"),
		message(opGetxattr, 1, fuse.GetXAttrIn{Size: ^uint32(0)}, "user.x"),
		message(opCopyFileRange, 1, fuse.CopyFileRangeIn{FhIn: 1, FhOut: 1, Len: ^uint64(0)}),
		message(opSyncfs, 1, header, "12345678"),
		message(opDestroy, 0, header),
		initMessage(),
	), uint16(1000))
	f.Fuzz(func(t *testing.T, script []byte, cut uint16) {
		if len(script) > 1<<14 {
			return
		}
		s, dir := testServer(t, Options{Descriptors: 2}, tree.Options{MaxNodes: 8, MaxHandles: 4})
		for len(script) >= 2 {
			n := min(int(binary.LittleEndian.Uint16(script)), len(script)-2)
			in := script[2 : 2+n : 2+n]
			script = script[2+n:]
			if _, h, ok := own([][]byte{in}); ok && h.opcode == opSetlkw {
				continue // it waits
			}
			out := make([]byte, 8192)
			if n := s.handle(context.Background(), 0, split(in, int(cut)), split(out, int(cut))); n < 0 || n > len(out) {
				t.Fatalf("an answer of %d bytes in %d", n, len(out))
			}
		}
		if names, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(names) != 1 {
			t.Errorf("beside the shared directory there is %v, %v", names, err)
		}
	})
}

// split cuts b in two; neither part is empty.
func split(b []byte, at int) [][]byte {
	switch {
	case len(b) == 0:
		return nil
	case at <= 0 || at >= len(b):
		return [][]byte{b}
	}
	return [][]byte{b[:at:at], b[at:]}
}
