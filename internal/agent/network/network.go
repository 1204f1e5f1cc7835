//go:build linux

// Package network prepares what every guest has of a network: its loopback
// interface, its name, and the files by which programs learn names.
package network

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// LoopbackUp starts the interface lo. The kernel gives it 127.0.0.1 and ::1.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket to configure the loopback interface: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return fmt.Errorf("look at the loopback interface: %w", err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("start the loopback interface: %w", err)
	}
	return nil
}

// SetHostname names the guest.
func SetHostname(name string) error {
	if err := CheckHostname(name); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set the host name %q: %w", name, err)
	}
	return nil
}

// CheckHostname refuses what sethostname(2) does, and what would break the
// files that name it.
func CheckHostname(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("the host name %.80q is not possible: it must have 1 to 64 characters", name)
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._", c) {
			return fmt.Errorf("the host name %q is not possible: it may have letters, digits, '-', '.' and '_'", name)
		}
	}
	return nil
}
