//go:build linux

package volumes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

const (
	// answerTime bounds the wait for the host's file server to answer.
	answerTime = 30 * time.Second
	// tagTime bounds the wait for a virtiofs device, whose driver may still be
	// looking for it, and tagPause is the time between two tries.
	tagTime  = 10 * time.Second
	tagPause = 5 * time.Millisecond
)

// A Conn is a connection to the host that has a descriptor.
type Conn interface {
	net.Conn
	SyscallConn() (syscall.RawConn, error)
}

// options9P are the mount data of v9fs (the kernel's filesystems/9p.rst) and
// its transport (parse_opts in net/9p/trans_fd.c) on a connected socket.
//
// access=client, the protocol's default, has the guest check modes for its own
// users: to the host they are all one. posixacl is left out, for it asks the
// host for two extended attributes of each file that is looked up.
func options9P(v *wire.Volume, socket int) string {
	return fmt.Sprintf("trans=fd,rfdno=%d,wfdno=%d,version=9p2000.L,msize=%d,access=client,cache=%s", socket, socket, v.MSize, v.Cache)
}

// mount9P mounts a share on a connection of its own.
func (m *volume) mount9P(ctx context.Context, dial func(context.Context) (Conn, error)) error {
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := m.greet(conn); err != nil {
		return err
	}
	// conn belongs to the runtime's poller; the kernel gets a descriptor that
	// does not. It is non-blocking, as trans_fd would make it.
	m.socket, err = duplicate(conn)
	if err != nil {
		return fmt.Errorf("take the connection to the host's file server: %w", err)
	}
	// A file server that says nothing would keep mount(2) for good. The end of
	// its connection ends it.
	silent := time.AfterFunc(answerTime, func() { _ = unix.Shutdown(m.socket, unix.SHUT_RDWR) })
	err = unix.Mount(m.Tag(), m.dir, "9p", m.flags(), options9P(&m.Volume, m.socket))
	if !silent.Stop() {
		if err == nil {
			_ = unix.Unmount(m.dir, 0)
		}
		err = fmt.Errorf("it did not answer within %v", answerTime)
	}
	if err != nil {
		unix.Close(m.socket)
		m.socket = -1
		return fmt.Errorf("mount the host's file server: %w", explain9P(err))
	}
	return nil
}

// greet says which volume the connection is for.
func (m *volume) greet(conn Conn) error {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return fmt.Errorf("ask the host's file server: %w", err)
	}
	if err := wire.WriteVolumeHello(conn, m.ID); err != nil {
		return fmt.Errorf("ask the host's file server: %w", err)
	}
	if err := wire.ReadVolumeAnswer(conn); err != nil {
		return fmt.Errorf("ask the host's file server: %w", err)
	}
	return nil
}

// duplicate returns a descriptor for the caller to close.
func duplicate(conn Conn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	controlErr := raw.Control(func(own uintptr) {
		fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 3)
	})
	if controlErr != nil {
		return -1, controlErr
	}
	return fd, err
}

// explain9P says what the errors of v9fs mean when it mounts.
func explain9P(err error) error {
	switch {
	case errors.Is(err, unix.EFAULT): // a request that the connection's end left without an answer
		return errors.New("it ended the connection, or has ended itself")
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EREMOTEIO), errors.Is(err, unix.EPIPE):
		return fmt.Errorf("%w: it ended the connection, or has ended itself", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("%w: the kernel's 9P knows no connections over descriptors (9pnet_fd), or the two speak different versions", err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%w: give the guest more memory with --memory", err)
	}
	return err
}

// mountVirtioFS mounts a share that is a device (the kernel's
// filesystems/virtiofs.rst). No device has the tag, says EINVAL.
func (m *volume) mountVirtioFS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tagTime)
	defer cancel()
	for {
		err := unix.Mount(m.Tag(), m.dir, "virtiofs", m.flags(), "")
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("mount the virtiofs device %s: %w", m.Tag(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("mount the virtiofs device %s: there was none within %v (%w)", m.Tag(), tagTime, err)
		case <-time.After(tagPause):
		}
	}
}
