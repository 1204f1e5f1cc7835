package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bake/internal/image"
	"bake/internal/policy"
)

// Cached returns the path of an app of o in the cache, built if it is not
// there. It goes by the contents of everything that goes into the app; o.Output
// is not used. Processes that want the same app build it once.
func Cached(ctx context.Context, o Options) (string, error) {
	if err := o.complete(); err != nil {
		return "", err
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w; set HOME or XDG_CACHE_HOME", err)
	}
	dir = filepath.Join(dir, "bake", "apps")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cache of packed apps: %w", err)
	}
	p, err := collect(ctx, &o)
	if err != nil {
		return "", err
	}
	defer p.close()
	src, err := openImage(ctx, o)
	if err != nil {
		return "", err
	}
	defer src.Close()
	key, err := p.key(ctx, src, dir, o)
	if err != nil {
		return "", err
	}
	o.Output = filepath.Join(dir, key)
	if ready(o.Output) {
		return o.Output, nil
	}
	unlock, err := lock(o.Output + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if ready(o.Output) { // by whoever had the lock
		return o.Output, nil
	}
	_, err = p.build(ctx, src, o)
	return o.Output, err
}

// ready says whether an app is there. It appears in one step, so it is whole.
func ready(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// lock waits for the exclusive lock on path. The file stays: removing it would
// let two processes hold locks on different files of that name.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the cache of packed apps: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock the cache of packed apps: %w", err)
		}
	}
}

// key is a hash over all that an app is made of.
func (p *parts) key(ctx context.Context, src *image.Image, temp string, o Options) (string, error) {
	id, err := identity(ctx, src, temp, o)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	enc := json.NewEncoder(h)
	var modules []string
	for _, m := range p.kernel.Modules {
		modules = append(modules, m.SHA256+m.Feature)
	}
	err = enc.Encode(struct {
		Image, Kernel, VMM, OS, Arch, Version string
		Config                                image.Config
		Modules                               []string
		Compress                              bool
		BuildTime                             int64
		Network                               policy.Rules
	}{id, p.kernel.ImageSHA256, o.VMM, o.OS, o.Arch, o.Version, src.Config, modules, o.Compress, o.BuildTime, o.Network})
	if err != nil {
		return "", fmt.Errorf("name the packed app in the cache: %w", err)
	}
	files := []string{p.carrier, o.Initrd, o.Firecracker}
	if p.vmm != nil && p.vmm.temp != "" {
		files = append(files, p.vmm.temp)
	}
	for _, path := range files {
		if err := addFile(h, path); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:20]), nil
}

// identity is the image's digest or, for a folder, that of its tree.
func identity(ctx context.Context, src *image.Image, temp string, o Options) (string, error) {
	id, err := src.Key()
	if err != nil || id != "" {
		return id, err
	}
	tree, err := treeOf(ctx, src, temp, o)
	if err != nil {
		return "", err
	}
	defer tree.Close()
	return tree.Digest(ctx)
}

func addFile(w io.Writer, path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read a part of the app: %w", err)
	}
	defer f.Close()
	n, err := io.Copy(w, f)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	_, err = fmt.Fprintf(w, "\n%d\n", n)
	return err
}
