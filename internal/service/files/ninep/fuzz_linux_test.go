package ninep

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
)

// FuzzServer gives the server a stream of messages, after a good beginning.
// Whatever they are, it neither dies nor leaves the shared directory, and it
// answers each message at most once, in messages that are whole.
func FuzzServer(f *testing.F) {
	for _, m := range [][]byte{
		message9(tWalk, 1, 0, 2, uint16(2), "d", "f"),
		message9(tLcreate, 1, 1, "new", oRdwr, 0o644, 0),
		message9(tGetattr, 1, 0, ^uint64(0)),
		message9(tSetattr, 1, 1, 0x1ff, 0o600, 0, 0, uint64(9), uint64(1), uint64(1), uint64(1), uint64(1)),
		message9(tReaddir, 1, 1, uint64(0), 1000),
		message9(tXattrwalk, 1, 0, 9, ""),
		message9(tXattrcreate, 1, 0, "user.x", uint64(3), 0),
		message9(tLock, 1, 1, uint8(1), 1, uint64(0), uint64(0), 1, "x"),
		message9(tGetlock, 1, 1, uint8(1), uint64(0), uint64(0), 1, "x"),
		message9(tRenameat, 1, 0, "d", 0, "e"),
		message9(tUnlinkat, 1, 0, "..", 0),
		message9(tSymlink, 1, 0, "l", "/etc", 0),
		message9(tMknod, 1, 0, "n", unix.S_IFIFO, 0, 0, 0),
		append(message9(tLopen, 1, 1, 0), message9(tRead, 2, 1, uint64(0), 100)...),
		append(message9(tFlush, 1, uint16(2)), message9(tVersion, 2, 8192, version)...),
		message9(tWrite, 1, 1, uint64(0), 3, []byte("abc")),
		message9(tStatfs, 1, 0), message9(tReadlink, 1, 0), message9(tFsync, 1, 1, 1), message9(tClunk, 1, 1),
		message9(tLink, 1, 0, 1, "k"), message9(tMkdir, 1, 0, "m", 0o777, 0), message9(tAttach, 1, 5, noFid, "u", "/", 0),
	} {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		top := t.TempDir()
		shared := filepath.Join(top, "shared")
		os.MkdirAll(filepath.Join(shared, "d"), 0o755)
		write(t, filepath.Join(shared, "d", "f"), "x")
		tr := openTree(t, shared, tree.Options{MaxNodes: 100, MaxHandles: 100})
		a, b := socketpair(t)
		end := make(chan error, 1)
		go func() { end <- Serve(t.Context(), b, tr, Limits{Fids: 100, Locks: 100, LockWait: 1}) }()
		go func() {
			a.Write(message9(tVersion, 1, uint32(maxMessage), version))
			a.Write(message9(tAttach, 2, 0, noFid, "", "", 0))
			a.Write(message9(tWalk, 3, 0, 1, uint16(0)))
			a.Write(stream)
			unix.Shutdown(int(fileDescriptor(t, a)), unix.SHUT_WR)
		}()
		for {
			var h [headerSize]byte
			if _, err := io.ReadFull(a, h[:]); err != nil {
				break
			}
			size := binary.LittleEndian.Uint32(h[:])
			if size < headerSize || size > maxMessage {
				t.Fatalf("a reply of %d bytes", size)
			}
			if _, err := io.CopyN(io.Discard, a, int64(size-headerSize)); err != nil {
				break
			}
		}
		a.Close()
		<-end
		if es, err := os.ReadDir(top); err != nil || len(es) != 1 {
			t.Fatalf("beside the shared directory: %v, %v", es, err)
		}
	})
}

// FuzzDecoder takes fields off any bytes.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x01\x02\x00\x03\x00ab"), []byte{0, 1, 2, 3, 4, 5})
	f.Add([]byte("\xff\xff"), []byte{4})
	f.Fuzz(func(t *testing.T, b, kinds []byte) {
		d := decode(b)
		left := len(b)
		for _, k := range kinds {
			switch k % 5 {
			case 0:
				d.u8()
			case 1:
				d.u16()
			case 2:
				d.u32()
			case 3:
				d.u64()
			case 4:
				if s := d.str(); len(s) > left {
					t.Fatal("a string longer than the message")
				}
			}
			if len(d.b) > left {
				t.Fatal("the message grew")
			}
			left = len(d.b)
		}
		if !d.ok && d.end() {
			t.Fatal("a message that was cut off is whole")
		}
	})
}
