//go:build linux

package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// programs is an app of a Debian, made once for all scripts that want it.
type programs struct {
	once sync.Once
	app  string
	err  error
}

// programs APP [net|volumes]
func cmdPrograms(ts *testscript.TestScript, args []string) {
	need(ts, args, 1, "programs APP [net|volumes]")
	set := "net"
	if len(args) > 1 {
		set = args[1]
	}
	l := scriptOf(ts).lab
	p := l.programs[set]
	if p == nil {
		ts.Fatalf("there are no programs for %s", set)
	}
	p.once.Do(func() { p.app, p.err = l.makePrograms(set) })
	ts.Check(p.err)
	ts.Check(os.Link(p.app, ts.MkAbs(args[0])))
}

// makePrograms builds an app of the root filesystem that scripts/rootfs.sh
// makes once for all runs of the tests.
func (l *lab) makePrograms(set string) (string, error) {
	machine, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	command := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "CACHE="+filepath.Join(machine, "bake"), "BAKE_BUILD_KERNEL="+l.kernel)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, &stderr)
		}
		return strings.TrimSpace(string(out)), nil
	}
	rootfs, err := command(filepath.Join(sourceDir(), "scripts", "rootfs.sh"), set)
	if err != nil {
		return "", err
	}
	app := filepath.Join(l.dir, set+".app")
	_, err = command(filepath.Join(l.bin, "bake"), "build", rootfs, "-o", app, "--entrypoint", "/bin/sh")
	return app, err
}
