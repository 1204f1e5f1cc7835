//go:build linux

// Command testguest is PID 1 of the virtual machines that test package
// virtiofs: it mounts what it is told to, runs what the host asks for, and is
// also the programs that no shell has.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

// The ports of the tests.
const (
	portRun   = 1000 // guest: one command and one result a connection
	portReady = 1001 // host: a connection says that the guest is up
)

// A result is how a command ended.
type result struct {
	Output string
	Code   int
}

func main() {
	if os.Getpid() != 1 {
		if err := program(os.Args[1:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if err := serve(); err != nil {
		fmt.Println("testguest:", err)
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func serve() error {
	for _, fs := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}} {
		os.MkdirAll(fs[1], 0o755)
		if err := unix.Mount(fs[0], fs[1], fs[0], 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", fs[1], err)
		}
	}
	os.Setenv("PATH", "/bin")
	if out, err := exec.Command("/bin/busybox", "--install", "-s", "/bin").CombinedOutput(); err != nil {
		return fmt.Errorf("install busybox: %w: %s", err, out)
	}
	l, err := vsock.Listen(portRun, nil)
	if err != nil {
		return err
	}
	ready, err := vsock.Dial(vsock.Host, portReady, nil)
	if err != nil {
		return err
	}
	go func() { // the host's end is the machine's
		io.Copy(io.Discard, ready)
		unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go run(conn)
	}
}

func run(conn net.Conn) {
	defer conn.Close()
	var argv []string
	if err := json.NewDecoder(conn).Decode(&argv); err != nil || len(argv) == 0 {
		return
	}
	var out bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	r := result{}
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if r.Code = -1; errors.As(err, &exit) {
			r.Code = exit.ExitCode()
		} else {
			fmt.Fprintln(&out, err)
		}
	}
	r.Output = out.String()
	json.NewEncoder(conn).Encode(r)
}
