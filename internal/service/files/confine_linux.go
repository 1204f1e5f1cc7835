package files

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of its capabilities(7) a server that root started keeps those that serving
// other users' files takes. CAP_DAC_READ_SEARCH goes for open_by_handle_at(2),
// CAP_MKNOD for devices, and CAP_SETFCAP for programs of the volume.
var keptCapabilities = map[int]bool{
	unix.CAP_CHOWN: true, unix.CAP_DAC_OVERRIDE: true, unix.CAP_FOWNER: true, unix.CAP_FSETID: true,
}

// confine takes from the process all but its volumes, and executes it again:
// Landlock holds for the thread that asks for it, and for all of a program that
// this thread executes. It returns only if it could not.
func confine(d *description) error {
	runtime.LockOSThread()
	for _, p := range [][2]uintptr{
		// The setting that the parent's start made is the first thread's.
		{unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)},
		{unix.PR_SET_NO_NEW_PRIVS, 1},
	} {
		if err := unix.Prctl(int(p[0]), p[1], 0, 0, 0); err != nil {
			return fmt.Errorf("confine the file server: prctl %d: %w", p[0], err)
		}
	}
	if err := checkParent(d); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("confine the file server: forbid core dumps: %w", err)
	}
	if err := dropCapabilities(); err != nil {
		return fmt.Errorf("confine the file server: give up capabilities: %w", err)
	}
	program, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("confine the file server: open its program: %w", err)
	}
	rules := []landlockRule{{program, landlockProgram}}
	for i, v := range d.Volumes {
		access := uint64(landlockDir)
		switch {
		case v.ReadOnly && v.File:
			access = landlockReadFile
		case v.ReadOnly:
			access = landlockReadDir
		case v.File:
			access = landlockFile
		}
		rules = append(rules, landlockRule{fdVolumes + i, access})
	}
	abi, err := landlock(rules)
	if err != nil && !errors.Is(err, errNoLandlock) {
		return fmt.Errorf("confine the file server: %w", err)
	}
	// What it inherited stays open once more.
	for fd := fdDescription; fd < fdVolumes+len(d.Volumes)+d.Sockets; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("confine the file server: keep descriptor %d: %w", fd, err)
		}
	}
	err = unix.Exec("/proc/self/exe", []string{processName, servingArg, strconv.Itoa(abi)}, []string{})
	return fmt.Errorf("confine the file server: run it again: %w (a carrier must be linked without shared libraries)", err)
}

// checkParent notices a parent that died before the kernel was told to tell.
func checkParent(d *description) error {
	if os.Getppid() != d.Parent {
		return errors.New("the app that started this file server has ended")
	}
	return nil
}

// dropCapabilities takes all but the kept ones out of the bounding set, which
// is what an execve by root gives, and the ambient set, which is what one by
// another user keeps.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	for c := 0; c <= 63; c++ {
		if keptCapabilities[c] {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		switch {
		case errors.Is(err, unix.EINVAL): // the last one was the kernel's last
			return nil
		case errors.Is(err, unix.EPERM): // who may not give them up has none to get
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// nameProcess is for ps: the kernel takes the name from the program's path,
// which is "exe". It is called on the first thread, whose name is the
// process's, and does no harm on another.
func nameProcess() {
	name := append([]byte(processName), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
}

// raiseLimits lets the process have as many descriptors as it may, and says how
// many those are.
func raiseLimits() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return l.Cur
}
