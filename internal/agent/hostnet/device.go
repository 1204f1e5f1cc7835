//go:build linux

package hostnet

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A device is the TUN, or what stands for it in a test: packets behind a
// vnetHeader, one for each read and write. Writes may run at once; reads have
// one user.
//
// Its system calls never wait, so the scheduler is not told of them: to hand
// over the processor costs more than they do.
type device struct {
	file *os.File
	raw  syscall.RawConn
	mtu  int
	id   atomic.Uint32 // of IPv4 packets

	writing sync.RWMutex // held for reading while fd is used
	fd      int          // -1 when closed
}

// newDevice takes over f, which does not block.
func newDevice(f *os.File, mtu int) (*device, error) {
	d := &device{file: f, mtu: mtu}
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { d.fd = int(fd) })
	}
	if err != nil {
		return nil, fmt.Errorf("use the network device: %w", err)
	}
	d.raw = raw
	return d, nil
}

func (d *device) close() {
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.fd >= 0 {
		d.fd = -1
		d.file.Close()
	}
}

// nextID is the identification of the next IPv4 packet, by which routers in
// the guest tell fragments apart.
func (d *device) nextID() uint16 { return uint16(d.id.Add(1)) }

// readPacket reads a packet and its header. EAGAIN says that there is none.
func readPacket(fd uintptr, head *[vnetSize]byte, b []byte) (int, syscall.Errno) {
	iov := [2]unix.Iovec{{Base: &head[0], Len: vnetSize}, {Base: &b[0], Len: uint64(len(b))}}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READV, fd, uintptr(unsafe.Pointer(&iov)), uintptr(len(iov)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		if n < vnetSize {
			return 0, unix.EIO
		}
		return int(n) - vnetSize, 0
	}
}

// writeVector writes one packet, header first.
func (d *device) writeVector(iov []unix.Iovec) error {
	d.writing.RLock()
	defer d.writing.RUnlock()
	if d.fd < 0 {
		return os.ErrClosed
	}
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(d.fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// write writes one packet whose checksums are set, of which rest is the end. A
// packet that the kernel has no room for is lost, as on any network.
func (d *device) write(h vnetHeader, b, rest []byte) error {
	var head [vnetSize]byte
	h.put(&head)
	iov := [3]unix.Iovec{{Base: &head[0], Len: vnetSize}, {Base: &b[0], Len: uint64(len(b))}}
	n := 2
	if len(rest) > 0 {
		iov[2], n = unix.Iovec{Base: &rest[0], Len: uint64(len(rest))}, 3
	}
	return d.writeVector(iov[:n])
}
