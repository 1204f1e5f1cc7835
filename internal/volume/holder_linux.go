package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// exclusive makes open(2) of a block device that is mounted fail.
const exclusive = unix.O_EXCL

// lockHolder finds who has the flock(2) of f in /proc/locks, proc(5). The
// numbers there are of the process that took the lock and of the filesystem as
// it sees itself, which for some is not what stat(2) says: then nobody is
// found.
func lockHolder(f *os.File) holder {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return holder{}
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return holder{}
	}
	id := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	return processNamed(holderIn(string(locks), id))
}

// holderIn reads /proc/locks. A line with "->" is of one who waits.
func holderIn(locks, id string) int {
	for line := range strings.Lines(locks) {
		// 1: FLOCK ADVISORY WRITE 123 00:1f:456 0 EOF
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[5] != id {
			continue
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 {
			return pid
		}
	}
	return 0
}

// processNamed adds the name of what a process runs, without its folder: argv[0],
// which is what its user called it.
func processNamed(pid int) holder {
	if pid == 0 {
		return holder{}
	}
	h := holder{pid: pid}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return h
	}
	argv0, _, _ := strings.Cut(string(line), "\x00")
	if name := filepath.Base(argv0); argv0 != "" && printable(name) {
		h.name = name
	}
	return h
}

// loopDevice is the loop device that a file is behind, sysfs's
// block/loopN/loop/backing_file, or empty.
func loopDevice(f *os.File) string {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return ""
	}
	slices.Sort(files)
	for _, file := range files {
		path, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		other, err := os.Stat(strings.TrimSuffix(string(path), "\n"))
		if err == nil && os.SameFile(info, other) {
			return "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(file)))
		}
	}
	return ""
}
