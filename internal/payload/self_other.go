//go:build !linux

package payload

import "os"

func selfPath() (string, error) { return os.Executable() }
