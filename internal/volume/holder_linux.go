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

// lockHolder finds the process that has the flock(2) of f, and lives, in
// /proc/locks, proc(5).
func lockHolder(f *os.File) holder {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return holder{}
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return holder{}
	}
	return processNamed(holderIn(string(locks), fmt.Sprintf("%s:%d", filesystem(f, &st), st.Ino)))
}

// filesystem is the number of f's filesystem as /proc/locks has it: the one of
// its mount, which on btrfs is not what stat(2) says.
func filesystem(f *os.File, st *unix.Stat_t) string {
	major, minor := unix.Major(st.Dev), unix.Minor(st.Dev)
	if info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd())); err == nil {
		if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
			if ma, mi, ok := mountDevice(string(info), string(mounts)); ok {
				major, minor = ma, mi
			}
		}
	}
	return fmt.Sprintf("%02x:%02x", major, minor)
}

// mountDevice finds in mountinfo the mount that fdinfo names.
func mountDevice(fdinfo, mountinfo string) (major, minor uint32, ok bool) {
	id := ""
	for line := range strings.Lines(fdinfo) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id = strings.TrimSpace(v)
		}
	}
	for line := range strings.Lines(mountinfo) {
		// 36 35 98:0 /root /mount ...
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != id {
			continue
		}
		n, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor)
		return major, minor, n == 2 && err == nil
	}
	return 0, 0, false
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

// processNamed adds the name of what a process runs, without its folder:
// argv[0], which is what its user called it. A process that has ended, or is
// about to, has none, and is nobody.
func processNamed(pid int) holder {
	if pid == 0 {
		return holder{}
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return holder{}
	}
	h := holder{pid: pid}
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
