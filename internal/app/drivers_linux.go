package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/qemu"
	"bake/internal/payload"
	"bake/internal/vmmbundle"
)

// drivers are the hypervisors of this system, the preferred one first.
func drivers(ctx context.Context, img *Image, verbose bool, stdio Stdio) ([]hypervisor.Driver, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	d := &qemu.Driver{
		Arch:     img.Manifest.Target.Arch,
		CacheDir: filepath.Join(cache, "qemu"),
		Verbose:  verbose,
		Warnf:    func(format string, args ...any) { warn(stdio.Stderr, format, args...) },
	}
	// What the user names wins over what is embedded, and that over what is
	// installed.
	if img.Manifest.VMM.Kind == "qemu" && os.Getenv("BAKE_QEMU") == "" {
		if d.Command, d.Env, err = unpackQEMU(ctx, img, cache); err != nil {
			return nil, err
		}
	}
	return []hypervisor.Driver{d}, nil
}

// unpackQEMU puts the embedded QEMU into the cache, once, and says how to run
// it.
func unpackQEMU(ctx context.Context, img *Image, cache string) (command, env []string, err error) {
	part, _ := img.File.Part(payload.PartVMM)
	section, err := img.File.Section(payload.PartVMM)
	if err != nil {
		return nil, nil, fmt.Errorf("unpack the embedded QEMU: %w", err)
	}
	dir, err := vmmbundle.Unpack(ctx, section, part.SHA256, cache)
	if err != nil {
		return nil, nil, fmt.Errorf("unpack the embedded QEMU: %w", err)
	}
	c, err := vmmbundle.NewCommand(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("run the embedded QEMU: %w", err)
	}
	return c.Args, c.Env, nil
}

// cacheDir is where bake keeps what it can make again.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w; set HOME or XDG_CACHE_HOME", err)
	}
	return filepath.Join(dir, "bake"), nil
}
