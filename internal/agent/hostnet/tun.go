//go:build linux

package hostnet

import (
	"errors"
	"fmt"
	"os"

	"bake/internal/wire"

	"golang.org/x/sys/unix"
)

// Interface is the device's name.
const Interface = wire.HostInterface

const tunPath = "/dev/net/tun"

// The offloads of <linux/if_tun.h> that golang.org/x/sys does not name.
const (
	tunUSO4 = 0x20
	tunUSO6 = 0x40
)

// openTUN makes the device (Documentation/networking/tuntap.rst): whole IP
// packets, each behind a vnetHeader, and none of the work done that the header
// can say is left. segments says that this is so for UDP too. The device goes
// with its file.
func openTUN(name string) (_ *os.File, segments bool, err error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, fmt.Errorf("open %s for the guest's network (the kernel needs CONFIG_TUN or the module tun): %w", tunPath, err)
	}
	if segments, err = attach(fd, name); err != nil {
		unix.Close(fd)
		return nil, false, fmt.Errorf("make the network interface %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), tunPath), segments, nil
}

func attach(fd int, name string) (segments bool, err error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return false, err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return false, fmt.Errorf("TUNSETIFF: %w", err)
	}
	const offload = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	// Linux before 6.2 has no segmentation of UDP here and does it itself.
	err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload|tunUSO4|tunUSO6)
	segments = err == nil
	if errors.Is(err, unix.EINVAL) {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload)
	}
	if err != nil {
		return false, fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	return segments, nil
}
