package platform

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MemoryFile returns a file without a directory entry that holds exactly size
// bytes of r, positioned at its start. On Linux it is a memfd (memfd_create(2))
// that nobody can change any more: not its contents, not its size, not its
// seals. dir is not used here; name shows up in /proc/PID/fd and in errors.
//
// The file is close-on-exec. A child opens it by [ChildPath] after it
// inherited the descriptor through exec.Cmd.ExtraFiles.
func MemoryFile(dir, name string, r io.Reader, size int64) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // Linux < 6.3 has no MFD_NOEXEC_SEAL
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("make a memory file for the %s: memfd_create: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), "memfd:"+name)
	if err := fill(f, name, r, size); err != nil {
		f.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the memory file of the %s: %w", name, err)
	}
	return f, nil
}

// ChildPath is the path by which a child process opens the descriptor that it
// inherited as number fd (proc(5), /proc/PID/fd). Each open makes a new file
// description with its own offset and access mode.
func ChildPath(fd int) string {
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}
