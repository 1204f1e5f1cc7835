package traffic

import (
	"io"
	"net"
	"sync"
	"testing"
)

// serve answers on a loopback listener until the test ends.
func serve(t *testing.T) Dial {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if err := Serve(conn); err != nil {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return func() (io.ReadWriteCloser, error) { return net.Dial("tcp", ln.Addr().String()) }
}

func TestOneStreamTakesManyRequests(t *testing.T) {
	dial := serve(t)
	rw, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer rw.Close()
	const odd = 3*blockSize + 17
	for range 2 {
		if _, err := Upload(rw, odd); err != nil {
			t.Fatal(err)
		}
		if _, err := Download(rw, odd); err != nil {
			t.Fatal(err)
		}
		times, err := PingPong(rw, 5)
		if err != nil || len(times) != 5 {
			t.Fatalf("PingPong: %d times, %v", len(times), err)
		}
	}
}

func TestManyStreams(t *testing.T) {
	dial := serve(t)
	if _, err := Connect(dial, 20); err != nil {
		t.Error(err)
	}
	if _, err := Chorus(dial, 10, 20); err != nil {
		t.Error(err)
	}
	if _, failed := Crowd(dial, 50); len(failed) > 0 {
		t.Errorf("%d of 50 failed, the first: %v", len(failed), failed[0])
	}
}

func TestFailuresAreCounted(t *testing.T) {
	refuse := func() (io.ReadWriteCloser, error) { return nil, io.ErrClosedPipe }
	if _, err := Connect(refuse, 3); err == nil {
		t.Error("Connect says nothing of a refused connection")
	}
	if _, failed := Crowd(refuse, 7); len(failed) != 7 {
		t.Errorf("Crowd counts %d failures of 7", len(failed))
	}
	if _, err := Chorus(refuse, 3, 1); err == nil {
		t.Error("Chorus says nothing of a refused connection")
	}
	a, b := net.Pipe()
	go func() { a.Write(make([]byte, 9)); a.Close() }()
	if err := Serve(b); err == nil {
		t.Error("Serve takes a request that is nothing")
	}
}
