package relay

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// holdTime is how long a loop that holds its processor waits for the next
// message, in milliseconds.
const holdTime = 1

// wait waits for events, or looks for them if there is something to do anyway.
func (l *Loop) wait(events []unix.EpollEvent) (int, error) {
	if len(l.again) > 0 {
		return epollNow(l.epoll, events, 0)
	}
	if l.hold {
		if n, err := epollNow(l.epoll, events, holdTime); n > 0 || err != nil {
			return n, err
		}
	}
	n, err := unix.EpollWait(l.epoll, events, -1)
	if err == unix.EINTR {
		return 0, nil
	}
	return n, err
}

// The calls below take so little time that Go's scheduler need not know of
// them: what they work on does not block.

func epollNow(epoll int, events []unix.EpollEvent, ms int) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

// readNow reads into b, which is not empty.
func readNow(fd int, b []byte) (int, error) { return ioNow(unix.SYS_READ, fd, b) }

// writeNow writes b, which is not empty.
func writeNow(fd int, b []byte) (int, error) { return ioNow(unix.SYS_WRITE, fd, b) }

func ioNow(call uintptr, fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
