package udpio

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchLen is how many datagrams one system call carries. More gains
	// nothing that could be measured.
	batchLen = 32
	// controlLen holds one in_pktinfo or in6_pktinfo, the larger.
	controlLen = 16 + unix.SizeofInet6Pktinfo + 4
)

// control is aligned as cmsghdr must be.
type control [controlLen / 8]uint64

func (c *control) bytes() []byte { return (*[controlLen]byte)(unsafe.Pointer(c))[:] }

// An inBatch is the memory that recvmmsg(2) fills. Its pages are in use only
// once datagrams so long and so many have come.
type inBatch struct {
	headers   [batchLen]unix.Mmsghdr
	iovecs    [batchLen]unix.Iovec
	names     [batchLen]unix.RawSockaddrInet6
	controls  [batchLen]control
	payloads  [][]byte
	datagrams [batchLen]Datagram
}

func newInBatch() *inBatch {
	b := new(inBatch)
	memory := make([]byte, batchLen*MaxPayload)
	for i := range b.headers {
		payload := memory[i*MaxPayload : (i+1)*MaxPayload]
		b.payloads = append(b.payloads, payload)
		b.iovecs[i].Base = &payload[0]
		b.iovecs[i].SetLen(MaxPayload)
		h := &b.headers[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Iov = &b.iovecs[i]
		h.SetIovlen(1)
	}
	return b
}

// receive takes what waits in s, at most one batch.
func (b *inBatch) receive(s *socket) ([]Datagram, error) {
	for i := range b.headers {
		h := &b.headers[i].Hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.Control = nil
		h.SetControllen(0)
		if s.info {
			h.Control = &b.controls[i].bytes()[0]
			h.SetControllen(controlLen)
		}
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&b.headers[0])), batchLen, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("recvmmsg", errno)
	}
	for i := range int(n) {
		d := &b.datagrams[i]
		*d = Datagram{Peer: b.peer(i), Payload: b.payloads[i][:b.headers[i].Len]}
		if s.info {
			d.Local = local(b.controls[i].bytes()[:b.headers[i].Hdr.Controllen])
		}
	}
	return b.datagrams[:n], nil
}

func (b *inBatch) peer(i int) netip.AddrPort {
	sa := &b.names[i]
	port := networkOrder(sa.Port)
	if sa.Family == unix.AF_INET {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), port)
	}
	a := netip.AddrFrom16(sa.Addr).Unmap()
	if sa.Scope_id != 0 && a.Is6() {
		a = a.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
	}
	return netip.AddrPortFrom(a, port)
}

// networkOrder turns a number around if this machine's order is not the
// network's.
func networkOrder(n uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], n)
	return binary.BigEndian.Uint16(b[:])
}

// zoneID is the scope of an address that peer made, or 0.
func zoneID(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	n, _ := strconv.ParseUint(a.Zone(), 10, 32)
	return uint32(n)
}

// local is the address that a datagram came to, or none.
func local(messages []byte) netip.Addr {
	if len(messages) < unix.CmsgLen(unix.SizeofInet4Pktinfo) {
		return netip.Addr{}
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&messages[0]))
	data := messages[unix.CmsgLen(0):]
	switch {
	case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO:
		info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
		return netip.AddrFrom4(info.Spec_dst)
	case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO && len(messages) >= unix.CmsgLen(unix.SizeofInet6Pktinfo):
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
		a := netip.AddrFrom16(info.Addr).Unmap()
		if info.Ifindex != 0 && a.IsLinkLocalUnicast() && a.Is6() {
			a = a.WithZone(strconv.FormatUint(uint64(info.Ifindex), 10))
		}
		return a
	}
	return netip.Addr{}
}

// An outBatch is the memory that sendmmsg(2) reads.
type outBatch struct {
	headers  [batchLen]unix.Mmsghdr
	iovecs   [batchLen]unix.Iovec
	names    [batchLen]unix.RawSockaddrInet6
	controls [batchLen]control
}

func newOutBatch() *outBatch {
	b := new(outBatch)
	for i := range b.headers {
		b.headers[i].Hdr.Iov = &b.iovecs[i]
		b.headers[i].Hdr.SetIovlen(1)
	}
	return b
}

func (b *outBatch) set(i int, s *socket, d *Datagram) {
	b.iovecs[i] = unix.Iovec{Base: unsafe.SliceData(d.Payload)}
	b.iovecs[i].SetLen(len(d.Payload))
	h := &b.headers[i].Hdr
	h.Name, h.Namelen, h.Control = nil, 0, nil
	h.SetControllen(0)
	if s.connected {
		return
	}
	h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
	if s.six {
		b.names[i] = unix.RawSockaddrInet6{
			Family: unix.AF_INET6, Port: networkOrder(d.Peer.Port()),
			Addr: d.Peer.Addr().As16(), Scope_id: zoneID(d.Peer.Addr()),
		}
		h.Namelen = unix.SizeofSockaddrInet6
	} else if d.Peer.Addr().Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&b.names[i])) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: networkOrder(d.Peer.Port()), Addr: d.Peer.Addr().As4(),
		}
		h.Namelen = unix.SizeofSockaddrInet4
	} else {
		// The kernel answers EAFNOSUPPORT.
		b.names[i] = unix.RawSockaddrInet6{Family: unix.AF_INET6}
		h.Namelen = unix.SizeofSockaddrInet6
	}
	if s.info && d.Local.IsValid() {
		b.setLocal(i, s, d.Local)
	}
}

// setLocal chooses the address that the datagram comes from (ip(7), IP_PKTINFO;
// RFC 3542 section 6.2).
func (b *outBatch) setLocal(i int, s *socket, a netip.Addr) {
	c := &b.controls[i]
	*c = control{}
	message := c.bytes()
	h := (*unix.Cmsghdr)(unsafe.Pointer(&message[0]))
	data := unsafe.Pointer(&message[unix.CmsgLen(0)])
	var size int
	if s.six {
		h.Level, h.Type = unix.SOL_IPV6, unix.IPV6_PKTINFO
		*(*unix.Inet6Pktinfo)(data) = unix.Inet6Pktinfo{Addr: a.As16(), Ifindex: zoneID(a)}
		size = unix.SizeofInet6Pktinfo
	} else {
		h.Level, h.Type = unix.SOL_IP, unix.IP_PKTINFO
		*(*unix.Inet4Pktinfo)(data) = unix.Inet4Pktinfo{Spec_dst: a.As4()}
		size = unix.SizeofInet4Pktinfo
	}
	h.SetLen(unix.CmsgLen(size))
	b.headers[i].Hdr.Control = &message[0]
	b.headers[i].Hdr.SetControllen(unix.CmsgSpace(size))
}

// send sends the datagrams from next to end and says how many went.
func (b *outBatch) send(fd, next, end int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[next])), uintptr(end-next), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("sendmmsg", errno)
	}
	return int(n), nil
}

// release lets go of the payloads.
func (b *outBatch) release(n int) {
	for i := range n {
		b.iovecs[i].Base = nil
	}
}
