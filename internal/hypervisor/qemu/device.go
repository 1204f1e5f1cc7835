//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"bake/internal/vhostuser"
)

// guestCID is the guest's address in its vsock. Each device is a world of its
// own, so all guests have the first address that is not reserved.
const guestCID = 3

// A device is the vsock device of one VM and the socket pair between its back
// end here and QEMU.
type device struct {
	// peer is QEMU's end of the pair, for the child to inherit.
	peer *os.File

	vsock  *vhostuser.Device
	served chan struct{}
	err    error // of Serve, set before served is closed
}

// newDevice listens on path for connections to the guest and serves QEMU.
func newDevice(path string) (*device, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair for the vsock device: %w", err)
	}
	mine, peer := os.NewFile(uintptr(pair[0]), "vhost-user"), os.NewFile(uintptr(pair[1]), "vhost-user")
	vsock, err := vhostuser.New(vhostuser.Config{CID: guestCID, Path: path})
	if err != nil {
		mine.Close()
		peer.Close()
		return nil, err
	}
	d := &device{peer: peer, vsock: vsock, served: make(chan struct{})}
	go func() {
		defer close(d.served)
		d.err = vsock.Serve(context.Background(), mine)
	}()
	return d, nil
}

// close waits for the back end to hand over what the guest sent last, and
// frees it. QEMU must have ended, or have never begun.
func (d *device) close() error {
	err := d.peer.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	<-d.served
	return errors.Join(err, d.err, d.vsock.Close())
}
