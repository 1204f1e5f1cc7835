//go:build linux

package volumes

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// checkPlaces says which volume cannot be mounted because it is inside one that
// is read-only and has no place for it. Every other place is made.
func (v *Volumes) checkPlaces() error {
	for i, m := range v.mounted {
		outer := outside(v.mounted[:i], m.Target)
		if outer == nil || !outer.ReadOnly {
			continue
		}
		inside := m.Target[len(outer.Target)+1:]
		if outer.Kind != wire.VolumeTmpfs {
			found, err := has(outer.source, inside)
			if err != nil {
				return fmt.Errorf("look for the place of the volume for %s in that for %s: %w", m.Target, outer.Target, err)
			}
			if found {
				continue
			}
		}
		return fmt.Errorf("the volume for %s has no place to be: the volume for %s is read-only and has no %q; make that in it, or leave out its ro", m.Target, outer.Target, inside)
	}
	return nil
}

// outside is the innermost of volumes, which are in the order of mounting, that
// target is inside of.
func outside(list []*volume, target string) *volume {
	var found *volume
	for _, m := range list {
		if strings.HasPrefix(target, m.Target+"/") && (found == nil || len(m.Target) > len(found.Target)) {
			found = m
		}
	}
	return found
}

// has says whether the directory dir has something at a path in it.
func has(dir, inside string) (bool, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, inside, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case err == nil:
		unix.Close(fd)
		return true, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return false, nil
	}
	return false, err
}
