package archive

import (
	"archive/tar"

	"golang.org/x/sys/unix"
)

// pseudo says whether a directory's file system holds no files but what the
// kernel tells, and so is nothing to copy along with what is above it.
func pseudo(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC,
		unix.DEVPTS_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC,
		unix.BPF_FS_MAGIC, unix.PSTOREFS_MAGIC, mqueueMagic:
		return true
	}
	return false
}

// mqueueMagic is MQUEUE_MAGIC of Linux's ipc/mqueue.c.
const mqueueMagic = 0x19800202

// mknod makes a device or a FIFO that only its owner can open.
func mknod(dir int, base string, hdr *tar.Header) error {
	mode := uint32(0o600)
	switch hdr.Typeflag {
	case tar.TypeFifo:
		mode |= unix.S_IFIFO
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
	}
	return unix.Mknodat(dir, base, mode, int(unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))))
}
