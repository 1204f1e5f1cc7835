package udpio

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// errorsPerEvent bounds how many ICMP errors one event takes, so that a flood
// of them does not stop the datagrams.
const errorsPerEvent = 64

// serveErrors takes the ICMP errors of a socket's error queue (ip(7),
// IP_RECVERR).
func (s *socket) serveErrors(in *inBatch) {
	quoted := in.payloads[0]
	var messages [512]byte
	for range errorsPerEvent {
		n, peer, errno, ok := s.nextError(quoted, messages[:])
		if !ok {
			return
		}
		if errno != 0 {
			s.handler.Failed(peer, errno, quoted[:n])
		}
	}
}

// nextError takes one error. The errno is 0 for what is not an ICMP error:
// those of this host come back from the call that sends.
func (s *socket) nextError(quoted, messages []byte) (n int, peer netip.AddrPort, errno syscall.Errno, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, netip.AddrPort{}, 0, false
	}
	n, m, _, from, err := unix.Recvmsg(s.fd, quoted, messages, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return 0, netip.AddrPort{}, 0, false
	}
	switch sa := from.(type) {
	case *unix.SockaddrInet4:
		peer = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		peer = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return n, peer, icmpErrno(messages[:m]), true
}

// icmpErrno finds the struct sock_extended_err (linux/errqueue.h) of an ICMP
// error: ee_errno u32, ee_origin u8 and more.
func icmpErrno(messages []byte) syscall.Errno {
	list, err := unix.ParseSocketControlMessage(messages)
	if err != nil {
		return 0
	}
	for _, m := range list {
		v4 := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if (!v4 && !v6) || len(m.Data) < 5 {
			continue
		}
		if origin := m.Data[4]; origin == unix.SO_EE_ORIGIN_ICMP || origin == unix.SO_EE_ORIGIN_ICMP6 {
			return syscall.Errno(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return 0
}
