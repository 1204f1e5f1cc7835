//go:build linux

package link

import (
	"net"
	"testing"

	"github.com/mdlayher/vsock"

	"bake/internal/wire"
)

func TestIsHost(t *testing.T) {
	for _, c := range []struct {
		peer net.Addr
		want bool
	}{
		{&vsock.Addr{ContextID: wire.HostCID, Port: 1024}, true},
		{&vsock.Addr{ContextID: vsock.Local, Port: 1024}, false},
		{&vsock.Addr{ContextID: 3, Port: 22}, false},
		{&net.UnixAddr{Name: "x"}, false},
	} {
		if got := isHost(c.peer); got != c.want {
			t.Errorf("%v is the host: %v", c.peer, got)
		}
	}
}
