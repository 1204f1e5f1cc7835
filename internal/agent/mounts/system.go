//go:build linux

package mounts

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A systemMount is a filesystem that the kernel provides.
type systemMount struct {
	fstype, target string
	flags          uintptr
	data           string
}

var systemMounts = []systemMount{
	{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=755"},
	{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"cgroup2", "/sys/fs/cgroup", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
	{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
}

// System mounts the kernel's filesystems and hands the cgroup controllers to
// the container's cgroup.
func System() error {
	for _, m := range systemMounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", m.target, err)
		}
		err := unix.Mount(m.fstype, m.target, m.fstype, m.flags, m.data)
		if errors.Is(err, unix.EBUSY) && m.fstype == "devtmpfs" {
			continue // the kernel mounted it (CONFIG_DEVTMPFS_MOUNT)
		}
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	return delegate("/sys/fs/cgroup")
}

// delegate enables every controller for the children of a cgroup
// (cgroup-v2.rst, "Controlling Controllers"). One that cannot be enabled, as
// cpu with real-time processes around, is left out.
func delegate(cgroup string) error {
	b, err := os.ReadFile(cgroup + "/cgroup.controllers")
	if err != nil {
		return fmt.Errorf("list the cgroup controllers: %w", err)
	}
	for _, c := range strings.Fields(string(b)) {
		_ = os.WriteFile(cgroup+"/cgroup.subtree_control", []byte("+"+c), 0o644)
	}
	return nil
}

// Known says whether the kernel knows a filesystem type.
func Known(fstype string) bool {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == fstype {
			return true
		}
	}
	return false
}
