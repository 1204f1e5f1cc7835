package traffic

import (
	"net"
	"sync"
	"testing"
	"time"
)

func TestDatagrams(t *testing.T) {
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ServeDatagrams(server); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { server.Close(); wg.Wait() })
	conn, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, size := range []int{1400, 60000} {
		if err := Ask(conn, size, 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		f, err := Collect(conn)
		if err != nil {
			t.Fatal(err)
		}
		if f.Datagrams == 0 || f.Bytes != f.Datagrams*int64(size) {
			t.Errorf("%d datagrams of %d bytes have %d bytes", f.Datagrams, size, f.Bytes)
		}
	}
	if _, err := Flood(conn, askSize, time.Second); err == nil {
		t.Error("a flood may look like a request for one")
	}
}

func TestRate(t *testing.T) {
	if r := (Flow{Datagrams: 2, Bytes: 3000, Took: 2 * time.Second}).Rate(); r != 1500 {
		t.Errorf("3000 bytes in 2 s are %v a second", r)
	}
	if r := (Flow{Datagrams: 1, Bytes: 1500}).Rate(); r != 0 {
		t.Errorf("one datagram has the rate %v", r)
	}
}
