package app

import (
	"fmt"
	"os"
)

// fdDir has a name for each open file.
const fdDir = "/dev/fd"

// scriptFile holds the script in a file that has no name any more.
func scriptFile(script []byte) (*os.File, error) {
	f, err := os.CreateTemp("", "bake-init-script-")
	if err != nil {
		return nil, fmt.Errorf("make a file for the init script: %w", err)
	}
	defer os.Remove(f.Name())
	if err := writeScript(f, script); err != nil {
		f.Close()
		return nil, err
	}
	// A script is executable by its mode, and read through its descriptor.
	if err := f.Chmod(0o700); err != nil {
		f.Close()
		return nil, fmt.Errorf("make the init script executable: %w", err)
	}
	return f, nil
}
