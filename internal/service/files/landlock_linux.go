package files

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock lets the process do (landlock(7)). Nothing lets it make device
// nodes, use a device's ioctls, or execute a file of a volume.
const (
	landlockReadFile = unix.LANDLOCK_ACCESS_FS_READ_FILE
	landlockReadDir  = unix.LANDLOCK_ACCESS_FS_READ_DIR | landlockReadFile
	landlockFile     = landlockReadFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	landlockDir      = landlockReadDir | landlockFile |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_REFER
	// landlockProgram is what executing it takes.
	landlockProgram = landlockReadFile | unix.LANDLOCK_ACCESS_FS_EXECUTE
)

// errNoLandlock says that the kernel has none, or not switched on.
var errNoLandlock = errors.New("this kernel has no Landlock")

// landlockABI is the version of the interface that the kernel has.
func landlockABI() (int, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(abi), nil
	case unix.ENOSYS, unix.EOPNOTSUPP:
		return 0, errNoLandlock
	}
	return 0, fmt.Errorf("ask for the version of Landlock: %w", errno)
}

// landlockHandled is all that an interface of that version can forbid, and so
// what is forbidden wherever no rule allows it.
func landlockHandled(abi int) unix.LandlockRulesetAttr {
	fs := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1) // the thirteen of the first version
	attr := unix.LandlockRulesetAttr{}
	for _, right := range []struct {
		since int
		right uint64
	}{
		{2, unix.LANDLOCK_ACCESS_FS_REFER},
		{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
		{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
		{9, unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX},
	} {
		if abi >= right.since {
			fs |= right.right
		}
	}
	attr.Handled_access_fs = fs
	if abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr
}

// A landlockRule allows something at and beneath what a descriptor names.
type landlockRule struct {
	fd     int
	access uint64
}

// landlock confines the calling thread, and what it executes, to rules. It
// returns the version of the interface. The thread must have no_new_privs.
func landlock(rules []landlockRule) (abi int, err error) {
	if abi, err = landlockABI(); err != nil {
		return 0, err
	}
	attr := landlockHandled(abi)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return 0, fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	for _, r := range rules {
		beneath := unix.LandlockPathBeneathAttr{Allowed_access: r.access & attr.Handled_access_fs, Parent_fd: int32(r.fd)}
		if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&beneath)), 0, 0, 0); errno != 0 {
			return 0, fmt.Errorf("landlock_add_rule: %w", errno)
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return 0, fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return abi, nil
}
