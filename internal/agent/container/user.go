//go:build linux

package container

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// accountFileLimit bounds /etc/passwd and /etc/group of an image, in bytes.
const accountFileLimit = 16 << 20

// An Account is who the command runs as.
type Account struct {
	UID, GID uint32
	// Groups are the supplementary groups.
	Groups []uint32
	Home   string
}

// LookupAccount finds the account that p asks for in the root filesystem at
// root. A number needs no entry there, a name does. What an image's symbolic
// links point at is looked for inside root.
func LookupAccount(root string, p wire.Process) (Account, error) {
	passwd, err := readInRoot(root, "/etc/passwd")
	if err != nil {
		return Account{}, err
	}
	group, err := readInRoot(root, "/etc/group")
	if err != nil {
		return Account{}, err
	}
	spec := userSpec(p)
	found, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, strings.NewReader(passwd), strings.NewReader(group))
	switch {
	case errors.Is(err, user.ErrNoPasswdEntries):
		return Account{}, fmt.Errorf("the user %q is not in the image's /etc/passwd: set one that is, or a number", spec)
	case errors.Is(err, user.ErrNoGroupEntries):
		return Account{}, fmt.Errorf("the group of %q is not in the image's /etc/group: set one that is, or a number", spec)
	case err != nil:
		return Account{}, fmt.Errorf("look up the user %q in the image: %w", spec, err)
	}
	return account(spec, found)
}

func account(spec string, u *user.ExecUser) (Account, error) {
	a := Account{Home: u.Home}
	if a.Home == "" {
		a.Home = "/"
	}
	ids := append([]int{u.Uid, u.Gid}, u.Sgids...)
	for _, id := range ids {
		// The largest number is the kernel's "no change", see setresuid(2).
		if id < 0 || id >= math.MaxUint32 {
			return Account{}, fmt.Errorf("the user %q of the image leads to the user or group number %d, which is not possible", spec, id)
		}
	}
	a.UID, a.GID = uint32(u.Uid), uint32(u.Gid)
	for _, id := range u.Sgids {
		a.Groups = append(a.Groups, uint32(id))
	}
	return a, nil
}

// userSpec joins the image's User with what overrides it. A UID override drops
// the image's user name but not a group that it names; a user that has neither
// gets the group of the passwd entry.
func userSpec(p wire.Process) string {
	name, group, _ := strings.Cut(p.User, ":")
	if p.UID != nil {
		name = strconv.FormatUint(uint64(*p.UID), 10)
	}
	if p.GID != nil {
		group = strconv.FormatUint(uint64(*p.GID), 10)
	}
	if group == "" {
		return name
	}
	return name + ":" + group
}

// readInRoot reads a file of a hostile tree: links are resolved within root
// (openat2(2), RESOLVE_IN_ROOT), what is no regular file is refused without
// waiting for it, and the length is bounded. A missing file is empty.
func readInRoot(root, name string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open the root filesystem at %s: %w", root, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENXIO):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("open the image's %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("look at the image's %s: %w", name, err)
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("the image's %s is not a regular file (%s)", name, st.Mode().Type())
	}
	b, err := io.ReadAll(io.LimitReader(f, accountFileLimit+1))
	if err != nil {
		return "", fmt.Errorf("read the image's %s: %w", name, err)
	}
	if len(b) > accountFileLimit {
		return "", fmt.Errorf("the image's %s is longer than %d bytes", name, accountFileLimit)
	}
	return string(b), nil
}
