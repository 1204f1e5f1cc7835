//go:build linux

// Command manager plays systemd for one unit, where there is none: it starts what
// ExecStart says, with its own environment, takes the messages of its main process
// (sd_notify(3)), demands signs of life, and ends it as KillMode=mixed does.
//
//	manager UNIT
//
// It prints a line for each state that systemctl would show: "active" when READY=1
// came, "alive" at the first sign of life after that, "deactivating" when it was asked to end by
// a SIGTERM of its own or the service said so, and "inactive" or "failed" with the
// exit code. Its own exit code is 0 for inactive.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bake/internal/unit/systemdtest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manager UNIT")
		os.Exit(2)
	}
	ok, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

func run(path string) (ok bool, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	unit, err := systemdtest.Parse(data)
	if err != nil {
		return false, err
	}
	service := unit["Service"]
	argv, err := systemdtest.CommandLine(strings.Join(service["ExecStart"], " "))
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "manager")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return false, err
	}
	defer socket.Close()
	if err := passCredentials(socket); err != nil {
		return false, err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	watchdog, err := seconds(service, "WatchdogSec")
	if err != nil {
		return false, err
	}
	stopLimit, err := seconds(service, "TimeoutStopSec")
	if err != nil {
		return false, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"),
		fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()))
	if err := cmd.Start(); err != nil {
		return false, err
	}
	messages := make(chan string)
	go receive(socket, cmd.Process.Pid, messages)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return supervise(cmd, service, messages, stop, ended, stopLimit)
}

// supervise follows the service to its end.
func supervise(cmd *exec.Cmd, service map[string][]string, messages <-chan string, stop <-chan os.Signal, ended <-chan error, stopLimit time.Duration) (bool, error) {
	said := map[string]bool{}
	say := func(state string) {
		if !said[state] {
			said[state] = true
			fmt.Println("manager:", state)
		}
	}
	var kill <-chan time.Time
	for {
		select {
		case m := <-messages:
			switch {
			case m == "READY=1":
				say("active")
			case m == "WATCHDOG=1" && said["active"]:
				say("alive")
			case m == "STOPPING=1":
				say("deactivating")
			case strings.HasPrefix(m, "WATCHDOG_PID="), strings.HasPrefix(m, "STATUS="):
			}
		case <-stop:
			say("deactivating")
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return false, err
			}
			kill = time.After(stopLimit)
		case <-kill:
			return false, errors.Join(errors.New("it did not end within TimeoutStopSec"), cmd.Process.Kill())
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return false, err
			}
			code := cmd.ProcessState.ExitCode()
			ok := code == 0 || slices.Contains(service["SuccessExitStatus"], strconv.Itoa(code))
			state := "failed"
			if ok {
				state = "inactive"
			}
			fmt.Printf("manager: %s %d\n", state, code)
			return ok, nil
		}
	}
}

func seconds(service map[string][]string, name string) (time.Duration, error) {
	n, err := strconv.ParseUint(strings.Join(service[name], " "), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return time.Duration(n) * time.Second, nil
}

// passCredentials has the kernel say who sent a message (unix(7), SO_PASSCRED).
func passCredentials(socket *net.UnixConn) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1)
	}); err != nil {
		return err
	}
	return set
}

// receive hands on the assignments of the main process alone, as NotifyAccess=main
// has it, until the socket is closed.
func receive(socket *net.UnixConn, pid int, messages chan<- string) {
	data, control := make([]byte, 64<<10), make([]byte, syscall.CmsgSpace(syscall.SizeofUcred))
	for {
		n, controlled, _, _, err := socket.ReadMsgUnix(data, control)
		if err != nil {
			return
		}
		list, err := syscall.ParseSocketControlMessage(control[:controlled])
		if err != nil || len(list) != 1 {
			continue
		}
		sender, err := syscall.ParseUnixCredentials(&list[0])
		if err != nil || int(sender.Pid) != pid {
			fmt.Println("manager: a message of another process")
			continue
		}
		for m := range strings.SplitSeq(strings.TrimSpace(string(data[:n])), "\n") {
			messages <- m
		}
	}
}
