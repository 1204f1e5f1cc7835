package hypervisortest

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"testing"
)

// openFiles is what this process has open.
func openFiles(t *testing.T) []string {
	t.Helper()
	dir := "/proc/self/fd"
	if runtime.GOOS == "darwin" {
		dir = "/dev/fd"
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		target, err := os.Readlink(dir + "/" + e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // the directory that was read
		}
		files = append(files, e.Name()+" "+target)
	}
	return files
}
