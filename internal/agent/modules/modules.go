//go:build linux

// Package modules loads kernel modules in the order in which the initrd lists
// them. It resolves no dependencies: whoever made the initrd did.
package modules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Load loads every NNN-name.ko of dir, and none of directories in it, in
// lexical order and removes each file after that, as an initrd's files are
// memory. A module that is loaded or built in already is no error, and neither
// is a missing dir.
func Load(dir string) (int, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("list the kernel modules of the initrd: %w", err)
	}
	var n int
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".ko") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if err := load(path); err != nil {
			return n, fmt.Errorf("load the kernel module %s: %w", e.Name(), explain(err))
		}
		if err := os.Remove(path); err != nil {
			return n, fmt.Errorf("free the memory of a loaded kernel module: %w", err)
		}
		n++
	}
	return n, nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// explain says what the errors of finit_module(2) mean that users meet.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("it needs a symbol of a module that was not loaded before it (%w)", err)
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("it was built for another kernel (%w)", err)
	case errors.Is(err, unix.EKEYREJECTED):
		return fmt.Errorf("this kernel takes signed modules only (%w)", err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("this kernel has no support for modules (%w)", err)
	}
	return err
}
