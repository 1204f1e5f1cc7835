//go:build linux

package hostnet

import (
	"io"
	"os"
	"testing"
)

// A kernel that has no place for what is in TIME_WAIT uses a port again at
// once, so that its SYN comes right behind the last ACK of the connection that
// had it before.
func TestPortIsUsedAgainAtOnce(t *testing.T) {
	r := kernelRig(t)
	ns := r.guest.(*kernelGuest).ns
	var err error
	ns.do(func() {
		err = os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("0"), 0)
	})
	if err != nil {
		t.Skipf("this kernel has one tcp_max_tw_buckets for all namespaces: %v", err)
	}
	r.host.serve(func(s *stream) {
		if _, err := io.Copy(io.Discard, s); err != nil {
			t.Errorf("the host reads: %v", err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	for i := range 40 {
		conn, err := (&kernelGuest{ns: ns, port: 40000}).DialTCP(server4)
		if err != nil {
			t.Fatalf("connection %d from the same port: %v", i, err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}
