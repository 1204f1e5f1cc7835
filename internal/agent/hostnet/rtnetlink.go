//go:build linux

package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A batch is several rtnetlink(7) requests that are sent at once. There is
// little of this, and it is on the way to the container's start: a library's
// code would take longer to be paged in than all of it to run.
type batch struct {
	b     []byte
	start int      // of the request that is begun
	what  []string // each request's part of an error
}

var native = binary.NativeEndian

// begin begins a request, whose number is its place in the batch. A request
// that fails does not keep the kernel from the next.
func (b *batch) begin(what string, kind, flags uint16) {
	b.start = len(b.b)
	b.what = append(b.what, what)
	b.b = native.AppendUint32(b.b, 0) // length
	b.b = native.AppendUint16(b.b, kind)
	b.b = native.AppendUint16(b.b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b.b = native.AppendUint32(b.b, uint32(len(b.what)))
	b.b = native.AppendUint32(b.b, 0) // port
}

func (b *batch) end() { native.PutUint32(b.b[b.start:], uint32(len(b.b)-b.start)) }

// ifinfo appends a struct ifinfomsg that sets flags.
func (b *batch) ifinfo(index int, flags uint32) {
	b.b = append(b.b, unix.AF_UNSPEC, 0, 0, 0)
	b.b = native.AppendUint32(b.b, uint32(index))
	b.b = native.AppendUint32(b.b, flags)
	b.b = native.AppendUint32(b.b, flags) // which of them
}

// ifaddr appends a struct ifaddrmsg.
func (b *batch) ifaddr(a netip.Addr, index int, flags byte) {
	b.b = append(b.b, family(a), byte(a.BitLen()), flags, unix.RT_SCOPE_UNIVERSE)
	b.b = native.AppendUint32(b.b, uint32(index))
}

// route appends a struct rtmsg.
func (b *batch) route(a netip.Addr, bits int, table, scope, kind byte) {
	b.b = append(b.b, family(a), byte(bits), 0, 0, table, unix.RTPROT_BOOT, scope, kind)
	b.b = native.AppendUint32(b.b, 0)
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func (b *batch) uint32(kind uint16, v uint32) { b.bytes(kind, native.AppendUint32(nil, v)) }

// bytes appends an attribute. All that are used here are of whole words.
func (b *batch) bytes(kind uint16, v []byte) {
	b.b = native.AppendUint16(b.b, uint16(unix.SizeofRtAttr+len(v)))
	b.b = native.AppendUint16(b.b, kind)
	b.b = append(b.b, v...)
}

// send has the kernel do all of it and returns the errors, of which EEXIST is
// none.
func (b *batch) send() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, b.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask the kernel: %w", err)
	}
	var errs []error
	in := make([]byte, 8<<10)
	for answered := 0; answered < len(b.what); {
		n, _, err := unix.Recvfrom(fd, in, 0)
		if err != nil {
			return fmt.Errorf("read the kernel's answer: %w", err)
		}
		for m := in[:n]; len(m) >= unix.SizeofNlMsghdr+4; {
			length, number := int(native.Uint32(m)), int(native.Uint32(m[8:]))
			if native.Uint16(m[4:]) == unix.NLMSG_ERROR && number >= 1 && number <= len(b.what) {
				answered++
				errno := unix.Errno(-int32(native.Uint32(m[unix.SizeofNlMsghdr:])))
				if errno != 0 && errno != unix.EEXIST {
					errs = append(errs, fmt.Errorf("%s: %w", b.what[number-1], errno))
				}
			}
			m = m[min(len(m), (max(length, unix.SizeofNlMsghdr)+3)&^3):]
		}
	}
	return errors.Join(errs...)
}
