//go:build linux

// Command testinit is PID 1 of the VMs of the conformance suite.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"bake/internal/hypervisor/hypervisortest/testguest"
)

func main() {
	err := mount()
	if err == nil {
		err = testguest.Serve(machine{new(held)})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testinit:", err)
		os.Exit(1) // a kernel panic
	}
	select {} // the machine ends by itself
}

func mount() error {
	for _, fs := range []string{"devtmpfs /dev", "proc /proc", "sysfs /sys", "tmpfs /mnt"} {
		kind, dir, _ := strings.Cut(fs, " ")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s on %s: %w", kind, dir, err)
		}
	}
	return nil
}

type machine struct{ held *held }

var _ testguest.Machine = machine{}
var _ testguest.Filler = machine{}
var _ testguest.Journaler = machine{}
var _ testguest.Sharer = machine{}
var _ testguest.Holder = machine{}

func (machine) CommandLine() (string, error) {
	b, err := os.ReadFile("/proc/cmdline")
	return strings.TrimSpace(string(b)), err
}

func (machine) CPUs() (int, error) { return runtime.NumCPU(), nil }

func (machine) MemoryMiB() (int, error) {
	var info unix.Sysinfo_t
	err := unix.Sysinfo(&info)
	return int(uint64(info.Totalram) * uint64(info.Unit) >> 20), err
}

func (machine) Disks() (int, error) {
	entries, err := os.ReadDir("/sys/block")
	n := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "vd") {
			n++
		}
	}
	return n, err
}

func device(disk int) string { return "/dev/vd" + string(rune('a'+disk)) }

func (machine) DiskSize(disk int) (int64, error) {
	n, err := ioctl(disk, unix.BLKGETSIZE64)
	return int64(n), err
}

func (machine) DiskReadOnly(disk int) (bool, error) {
	n, err := ioctl(disk, unix.BLKROGET)
	return int32(n) != 0, err
}

func ioctl(disk int, request uint) (int, error) {
	f, err := os.Open(device(disk))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return unix.IoctlGetInt(int(f.Fd()), request)
}

func (machine) ReadDisk(disk int, b []byte, offset int64) error {
	f, err := os.Open(device(disk))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(b, offset)
	return err
}

func (machine) WriteDisk(disk int, b []byte, offset int64) error {
	f, err := os.OpenFile(device(disk), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(b, offset); err != nil {
		return err
	}
	return f.Sync()
}

func (machine) Share(tag string, data []byte) ([]byte, error) {
	dir := "/mnt/" + tag
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount(tag, dir, "virtiofs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount the share %s: %w", tag, err)
	}
	b, err := os.ReadFile(dir + "/host")
	if err == nil {
		err = os.WriteFile(dir+"/guest", data, 0o644)
	}
	if err := errors.Join(err, unix.Unmount(dir, 0)); err != nil {
		return nil, err
	}
	return b, nil
}

func (machine) Print(text string) error {
	f, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func (machine) Dial(port uint32) (net.Conn, error) { return vsock.Dial(vsock.Host, port, nil) }

func (machine) Listen(port uint32) (net.Listener, error) { return vsock.Listen(port, nil) }

func (machine) PowerOff() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) }

func (machine) Reboot() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) }

func (machine) Panic() error {
	os.Exit(1) // the kernel does not forgive the end of PID 1
	return nil
}
