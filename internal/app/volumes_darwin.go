package app

import "os"

// openShared names a directory or file; macOS has no O_PATH.
func openShared(path string) (*os.File, error) { return os.Open(path) }
