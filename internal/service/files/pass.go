package files

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketPair is two ends of a stream, close-on-exec. On macOS there is a moment
// in which they are not, so the fork lock is held.
func socketPair(name string) (near, far *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// SocketPair is two ends of a stream for a vhost-user connection: this side's,
// for Volume.Socket, and the hypervisor's.
func SocketPair() (near, far *os.File, err error) { return socketPair("vhost-user") }

// sendFile sends f's descriptor with one byte.
func sendFile(c *net.UnixConn, f *os.File) error {
	var rights []byte
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	// The descriptor stays open, and in the mode that it is in, meanwhile.
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		rights = unix.UnixRights(int(fd))
		_, _, sendErr = c.WriteMsgUnix([]byte{1}, rights, nil)
	})
	return errors.Join(err, sendErr)
}

// receiveFile takes what sendFile sent. It returns io.EOF, bare or wrapped,
// when the sender is gone.
func receiveFile(c *net.UnixConn) (*os.File, error) {
	// One byte a read: descriptors of two messages do not come together.
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(b[:], oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errEnd
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, fmt.Errorf("read a descriptor: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, fmt.Errorf("read a descriptor: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		if len(fds) == 1 {
			return os.NewFile(uintptr(fds[0]), "connection"), nil
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	return nil, errors.New("a message came without its descriptor")
}
