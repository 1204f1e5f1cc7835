//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxEntered is how many threads of the agent are in the container at once. A
// filesystem of the container can keep them there.
const maxEntered = 32

// errEntered says that the container keeps maxEntered threads.
var errEntered = errors.New("the container's filesystem answers nobody: too many have waited for it for too long")

// Enter runs f with the container's mounts and root directory, as root, on a
// thread of its own that is thrown away. What f opens stays open; goroutines
// that f starts are outside. A path in the container may lead to a filesystem
// that answers late or never.
func (c *Container) Enter(f func() error) error { return c.enter(nil, f) }

// EnterAs is Enter with the rights of an account of the container.
func (c *Container) EnterAs(a Account, f func() error) error { return c.enter(&a, f) }

func (c *Container) enter(a *Account, f func() error) error {
	select {
	case c.entered <- struct{}{}:
		defer func() { <-c.entered }()
	default:
		return errEntered
	}
	ns, err := c.openInit("ns/mnt", unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("enter the container: %w", err)
	}
	defer ns.Close()
	return inNamespace(ns, a, f)
}

// openInit opens a file of the container's first process in /proc (proc(5)). It
// is never that of another process that got its number.
func (c *Container) openInit(name string, flags int) (*os.File, error) {
	path := fmt.Sprintf("/proc/%d/%s", c.init.PID, name)
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err == nil {
		if err = c.init.Signal(0); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the container's command has ended (%w)", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// inNamespace runs f on a new thread in a mount namespace, with the account's
// rights unless it is nil.
func inNamespace(ns *os.File, a *Account, f func() error) error {
	result := make(chan error, 1)
	var run func()
	run = func() {
		// Without UnlockOSThread the thread ends with its goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and /proc/self is what it sees. As it is
			// taken, the next goroutine is on another one.
			defer runtime.UnlockOSThread()
			done := make(chan struct{})
			go func() { defer close(done); run() }()
			<-done
			return
		}
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
		}
		if err == nil && a != nil {
			err = become(*a)
		}
		if err != nil {
			result <- fmt.Errorf("enter the container: %w", err)
			return
		}
		defer func() {
			if p := recover(); p != nil {
				result <- fmt.Errorf("panic in the container's namespaces: %v", p)
			}
		}()
		result <- f()
	}
	go run()
	return <-result
}

// become gives this thread, and not the process, an account's rights
// (setresuid(2), "C library/kernel differences").
func become(a Account) error {
	groups := unsafe.Pointer(unsafe.SliceData(a.Groups))
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(a.Groups)), uintptr(groups), 0); errno != 0 {
		return fmt.Errorf("set the groups: %w", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(a.GID), uintptr(a.GID), uintptr(a.GID)); errno != 0 {
		return fmt.Errorf("become group %d: %w", a.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(a.UID), uintptr(a.UID), uintptr(a.UID)); errno != 0 {
		return fmt.Errorf("become user %d: %w", a.UID, errno)
	}
	return nil
}
