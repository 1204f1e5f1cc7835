package archive

import (
	"archive/tar"
	"errors"

	"golang.org/x/sys/unix"
)

// finish gives a file that is open what the archive says of it: the owner first,
// which takes set-user-ID and capabilities away (chown(2)), attributes while it can
// be written, then the permissions, and last the times.
func (u *unpacker) finish(fd, dir int, base string, hdr *tar.Header) error {
	if u.owners {
		if err := unix.Fchown(fd, hdr.Uid, hdr.Gid); err != nil {
			return failure("set the owner of", hdr.Name, err)
		}
	}
	u.setAttributes(fd, hdr)
	if err := unix.Fchmod(fd, u.mode(hdr)); err != nil {
		return failure("set the permissions of", hdr.Name, err)
	}
	return setTimes(dir, base, hdr)
}

// finishUnopened is finish for what is not opened: links, devices and FIFOs.
func (u *unpacker) finishUnopened(dir int, base string, hdr *tar.Header) error {
	if u.owners {
		if err := unix.Fchownat(dir, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return failure("set the owner of", hdr.Name, err)
		}
	}
	if hdr.Typeflag != tar.TypeSymlink {
		// What this process has just made is no link. Linux before 6.6 cannot
		// be told not to follow one here.
		if err := unix.Fchmodat(dir, base, u.mode(hdr), 0); err != nil {
			return failure("set the permissions of", hdr.Name, err)
		}
	}
	return setTimes(dir, base, hdr)
}

// mode is st_mode's lower twelve bits. Without the owner whom it is for,
// set-user-ID would lend another's rights.
func (u *unpacker) mode(hdr *tar.Header) uint32 {
	mode := uint32(hdr.Mode) & 0o7777
	if u.Untrusted && !u.owners {
		mode &^= 0o6000
	}
	return mode
}

// setTimes sets the time of the last change, and that of the last access to the
// same if the archive does not say.
func setTimes(dir int, base string, hdr *tar.Header) error {
	accessed := hdr.AccessTime
	if accessed.IsZero() {
		accessed = hdr.ModTime
	}
	times := make([]unix.Timespec, 2)
	var err error
	if times[0], err = unix.TimeToTimespec(accessed); err == nil {
		times[1], err = unix.TimeToTimespec(hdr.ModTime)
	}
	if err == nil {
		err = unix.UtimesNanoAt(dir, base, times, unix.AT_SYMLINK_NOFOLLOW)
	}
	if errors.Is(err, unix.ERANGE) || errors.Is(err, unix.EINVAL) {
		return nil // a time that this system does not have
	}
	if err != nil {
		return failure("set the time of", hdr.Name, err)
	}
	return nil
}
