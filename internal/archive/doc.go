// Package archive turns files into a tar stream (POSIX.1-2001 pax) and a tar
// stream into files. Both ends of a copy between the host and a container use
// it, each with what it trusts.
//
// An archive holds permissions, numeric owners, modification times in
// nanoseconds, extended attributes (as SCHILY.xattr records, which star, GNU tar
// and libarchive read), hard links, symbolic links, devices and FIFOs. Memory does
// not grow with the size of files; it grows with the depth of directories and with
// hard links.
//
// Neither direction looks a name up twice: files are read and made relative to
// descriptors of their directories, and what is unpacked is confined to its
// directory. The package knows nothing of SSH, containers or the rules
// of where a copy goes.
package archive

import "strings"

// nameLimit bounds a name in an archive, in bytes: PATH_MAX of limits.h(0p).
const nameLimit = 4096

// xattrPrefix is how a pax record names an extended attribute.
const xattrPrefix = "SCHILY.xattr."

// carried reports whether an extended attribute (xattr(7)) goes into archives:
// those that a file system stores, less overlayfs's own.
func carried(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."):
		return false
	case strings.ContainsAny(name, "=\x00"): // no pax record can be called so
		return false
	case name == "security.selinux": // the label of a policy that is not there
		return false
	case name == "system.posix_acl_access", name == "system.posix_acl_default":
		return true
	}
	for _, namespace := range []string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, namespace) {
			return true
		}
	}
	return false
}
