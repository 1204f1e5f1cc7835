package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/kernel"
)

// Artifacts finds the parts of an app that are made before it: carriers and
// initrds beside the running bake, kernels in the cache.
type Artifacts struct {
	// Dirs are searched in this order.
	Dirs []string
	// Kernels is the store of kernel bundles.
	Kernels kernel.Store
}

// DefaultArtifacts searches beside the program exe and in its ../lib/bake and
// ../libexec/bake, where a package would put them.
func DefaultArtifacts(exe string) (Artifacts, error) {
	store, err := kernel.DefaultStore()
	if err != nil {
		return Artifacts{}, err
	}
	dir := filepath.Dir(exe)
	return Artifacts{
		Dirs: []string{
			dir,
			filepath.Join(dir, "..", "lib", "bake"),
			filepath.Join(dir, "..", "libexec", "bake"),
		},
		Kernels: store,
	}, nil
}

// Carrier is the path of the carrier for a target.
func (a Artifacts) Carrier(goos, arch string) (string, error) {
	return a.find("bake-app-"+goos+"-"+arch, "the carrier for "+goos+"/"+arch, "--input")
}

// Initrd is the path of the initrd for a guest architecture.
func (a Artifacts) Initrd(arch string) (string, error) {
	return a.find("initrd-"+arch+".cpio", "the initrd for "+arch, "--initrd")
}

func (a Artifacts) find(name, what, flag string) (string, error) {
	for _, dir := range a.Dirs {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return "", fmt.Errorf("look for %s: %w", what, err)
		case info.Mode().IsRegular():
			return path, nil
		}
	}
	return "", fmt.Errorf("%s, %s, is not in %s: make it with `make build initrd`, or name a file with %s", what, name, strings.Join(a.Dirs, " or "), flag)
}
