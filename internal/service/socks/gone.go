package socks

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// whenGone calls gone, from another goroutine, if the peer of a connection
// hangs up before stop is called. It reads nothing: what the peer sent already
// belongs to the relay. stop waits for it; the connection's read deadline is
// none afterwards.
func whenGone(conn net.Conn, gone func()) (stop func()) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The callback runs at once and then at each event, which a hang-up is.
		err := raw.Read(func(fd uintptr) bool { return hungUp(int(fd)) })
		if err == nil {
			gone()
		}
	}()
	return func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-done
		_ = conn.SetReadDeadline(time.Time{})
	}
}

// hungUp says that the peer is gone in both directions: who has only ended its
// own may wait for an answer.
func hungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}} // POLLHUP and POLLERR are always told
	for {
		n, err := unix.Poll(p, 0)
		if err == unix.EINTR {
			continue
		}
		return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	}
}
