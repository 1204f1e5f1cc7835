package rootfs

import "strings"

// keepXattr reports whether an attribute belongs in an image: those that a
// Linux file system stores (xattr(7)), less overlayfs's private ones and those
// of other systems.
func keepXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."):
		return false
	case name == aclAccess, name == aclDefault:
		return true
	}
	for _, ns := range []string{"user.", "trusted.", "security."} {
		if len(name) > len(ns) && strings.HasPrefix(name, ns) {
			return strings.IndexByte(name, 0) < 0
		}
	}
	return false
}

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)
