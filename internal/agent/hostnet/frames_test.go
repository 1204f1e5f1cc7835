//go:build linux

package hostnet

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// socketPair is two ends of a stream whose buffers hold a test's data.
func socketPair(t testing.TB) (near, far net.Conn) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "stream")
		conns[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

// A frame is written whole though the descriptor takes it in pieces.
func TestFrameWriterGoesOn(t *testing.T) {
	near, far := socketPair(t)
	raw, err := near.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	data := blob(3 << 20)
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(&stream{Conn: far})
		got <- b
	}()
	var w frameWriter
	done, waits := 0, 0
	for done < len(data) {
		err = raw.Write(func(fd uintptr) bool {
			w.fd = fd
			n, err := w.Write(data[done:min(len(data), done+60_000)])
			done += n
			waits++
			return err != unix.EAGAIN
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var errno syscall.Errno
	if err := raw.Write(func(fd uintptr) bool { w.fd = fd; errno = w.end(); return errno != unix.EAGAIN }); err != nil || errno != 0 {
		t.Fatal(err, errno)
	}
	if b := <-got; !bytes.Equal(b, data) {
		t.Errorf("%d bytes of %d come, after %d writes", len(b), len(data), waits)
	}
}

// FuzzFrameReader gives the reader a host's bytes, cut anywhere, and compares
// with a plain reading of them.
func FuzzFrameReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'x', 0, 0, 0, 0}, 3)
	f.Add([]byte{0, 0, 0, 2, 'x'}, 1)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 'x'}, 2)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if len(b) > 10_000 {
			return
		}
		near, far := socketPair(t)
		if _, err := far.Write(b); err != nil {
			t.Fatal(err)
		}
		far.Close()
		raw, err := near.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		r := newFrameReader(raw)
		buf := make([]byte, 1+uint(size)%5000)
		var got []byte
		for err == nil {
			var n int
			if n, err = r.next(); err != nil {
				break
			}
			for n = min(n, len(buf)); n > 0 && err == nil; {
				var m int
				m, err = r.Read(buf[:n])
				got = append(got, buf[:m]...)
				n -= m
			}
		}
		want, clean := plain(b)
		if clean != (err == io.EOF) || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v; there are %d, and the end is clean: %v", len(got), err, len(want), clean)
		}
	})
}

func plain(b []byte) (payload []byte, clean bool) {
	for len(b) >= frameHead {
		n := int(binary.BigEndian.Uint32(b))
		b = b[frameHead:]
		if n == 0 {
			return payload, true
		}
		k := min(n, len(b))
		payload, b = append(payload, b[:k]...), b[k:]
	}
	return payload, false
}
