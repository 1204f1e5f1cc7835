package app

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fdDir has a name for each open file.
const fdDir = "/proc/self/fd"

// scriptFile holds the script in memory: nothing to clean up.
func scriptFile(script []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("init-script", 0)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory for the init script: %w", err)
	}
	f := os.NewFile(uintptr(fd), "init-script")
	if err := writeScript(f, script); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
