//go:build linux

package container

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// defaultShell is the shell of an account that names none (passwd(5)).
const defaultShell = "/bin/sh"

// A Login is an account with what a login needs to know of it.
type Login struct {
	Account
	// Name is the account's, or its number if it has none.
	Name string
	// Shell is the login shell's path.
	Shell string
}

// LookupLogin finds an account of the container by name or number, with an
// optional :group. An empty one is that of the container's command, and root is
// there even if /etc/passwd is not.
func (c *Container) LookupLogin(spec string) (Login, error) {
	p := wire.Process{User: spec}
	if spec == "" {
		p = c.cfg.Process
	}
	root, err := c.openInit("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return Login{}, err
	}
	defer root.Close()
	return lookupLogin(pathOf(root), p)
}

func lookupLogin(root string, p wire.Process) (Login, error) {
	passwd, err := readInRoot(root, "/etc/passwd")
	if err != nil {
		return Login{}, err
	}
	name, _, _ := strings.Cut(userSpec(p), ":")
	if name == "root" && passwd == "" {
		p, name = wire.Process{User: "0"}, "0"
	}
	a, err := LookupAccount(root, p)
	if err != nil {
		return Login{}, err
	}
	l := Login{Account: a}
	entries, err := user.ParsePasswdFilter(strings.NewReader(passwd), func(u user.User) bool {
		return u.Name == name || u.Uid == int(a.UID)
	})
	if err != nil {
		return Login{}, fmt.Errorf("read the image's /etc/passwd: %w", err)
	}
	for i, e := range entries {
		if i == 0 || e.Name == name {
			l.Name, l.Shell = e.Name, e.Shell
			if e.Name == name {
				break
			}
		}
	}
	if l.Name == "" && a.UID == 0 {
		l.Name = "root"
	}
	l.Name = cmp.Or(l.Name, strconv.FormatUint(uint64(a.UID), 10))
	l.Shell = cmp.Or(l.Shell, defaultShell)
	return l, nil
}

// lookup finds who p runs as, in the container as it is now.
func (c *Container) lookup(p wire.Process) (Account, error) {
	root, err := c.openInit("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return Account{}, err
	}
	defer root.Close()
	return LookupAccount(pathOf(root), p)
}

// pathOf leads to an open directory (proc_pid_fd(5)).
func pathOf(dir *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", dir.Fd()) }
