package vmmbundle

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// A Command is how an unpacked bundle is started: Args[0] is the program, further arguments go behind Args;
// Env is set over the environment.
type Command struct {
	Args []string
	Env  []string
}

// NewCommand returns the command for dir, from Unpack.
func NewCommand(dir string) (Command, error) {
	index, err := readIndex(dir)
	if err != nil {
		return Command{}, fmt.Errorf("start the embedded QEMU in %s: %w", dir, err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return Command{}, fmt.Errorf("start the embedded QEMU: %w", err)
	}
	in := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	c := Command{
		Args: []string{in(index.Entry), "-L", in(dataDir)},
		Env: []string{
			"QEMU_MODULE_DIR=" + in(moduleDir),
			"LD_PRELOAD=", // objects of this machine, for another C library
		},
	}
	if index.Loader == "" {
		return c, nil
	}
	// ld.so(8) splits the path at colons and semicolons and expands what a dollar sign begins.
	if strings.ContainsAny(in(libDir), ":;$") {
		return Command{}, fmt.Errorf("the embedded QEMU cannot run from %s, because of the punctuation in that name: set XDG_CACHE_HOME to another directory", dir)
	}
	loader := []string{in(index.Loader)}
	if strings.HasPrefix(path.Base(index.Loader), "ld-linux") { // glibc's; musl's has no cache
		loader = append(loader, "--inhibit-cache")
	}
	c.Args = append(append(loader, "--library-path", in(libDir)), c.Args...)
	return c, nil
}
