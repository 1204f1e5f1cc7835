package platform

import (
	"fmt"
	"net"
	"os"
)

// PeerUID is the effective user ID of the process that made a connection to a
// Unix socket, at that time.
func PeerUID(conn net.Conn) (int, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("ask who the peer is: a %T has no user", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("ask who the peer is: %w", err)
	}
	var uid int
	var uerr error
	if err := raw.Control(func(fd uintptr) { uid, uerr = peerUID(int(fd)) }); err != nil {
		return 0, fmt.Errorf("ask who the peer is: %w", err)
	}
	if uerr != nil {
		return 0, fmt.Errorf("ask who the peer is: %w", os.NewSyscallError("getsockopt", uerr))
	}
	return uid, nil
}
