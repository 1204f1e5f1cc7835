//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The rounds of the fast and of the slow packers. mksquashfs takes a minute.
const (
	fastRounds = 5
	slowRounds = 3
)

// packages make the tree that is packed.
var packages = []string{"redis-server", "nginx", "python3"}

// packing compares bake build with the tools that others pack with, on the
// same tree, read from the host's cache. All of them write to the same disk.
func packing(ctx context.Context, b *bench) error {
	tree, err := b.debianTree(ctx)
	if err != nil {
		return err
	}
	files, bytes, err := sizeOf(tree) // reads the tree's directories; the packers' first round, its files
	if err != nil {
		return err
	}
	b.table.figure("the tree", fmt.Sprintf("%.0f MB in %d files", float64(bytes)/1e6, files))
	app, out := filepath.Join(b.dir, "tree.app"), filepath.Join(b.dir, "tree.out")
	bake := func(args ...string) []string {
		return append([]string{filepath.Join(b.bin, "bake"), "build", tree, "-o", app, "--vmm", "none", "--kernel", b.kernel, "--entrypoint", "/bin/sh"}, args...)
	}
	plain := &packer{name: "bake build", args: bake(), app: app}
	compress := &packer{name: "bake build --compress", args: bake("--compress"), app: app}
	squashfs := &packer{name: "mksquashfs -comp zstd", args: []string{"mksquashfs", tree, out, "-comp", "zstd", "-noappend", "-no-progress", "-quiet"}, image: out}
	erofs := &packer{name: "mkfs.erofs", args: []string{"mkfs.erofs", "--quiet", out, tree}, image: out}
	if _, err := plain.pack(ctx, b); err != nil { // fills the host's cache
		return err
	}
	for round := range fastRounds {
		turn := []*packer{plain, erofs}
		if round < slowRounds {
			turn = append(turn, compress, squashfs)
		}
		for _, p := range turn {
			if err := p.measure(ctx, b); err != nil {
				return err
			}
		}
	}
	for _, p := range []*packer{plain, compress, squashfs, erofs} {
		b.table.figure(p.name+", s", p.times.text("%.2f"))
		b.table.figure(p.name+", MB", fmt.Sprintf("%.1f", float64(p.size)/1e6))
		b.table.figure(p.name+", most resident memory, MB", fmt.Sprintf("%.0f", p.resident.max()))
	}
	paired := plain.times[:slowRounds] // those that had a slow round beside them
	r := ratioOf(squashfs.times, paired)
	b.table.atLeast("mksquashfs / bake", r.String(), r.value, 10, "×")
	r = ratioOf(squashfs.times, compress.times)
	b.table.atLeast("mksquashfs / bake --compress", r.String(), r.value, 4, "×")
	size := float64(compress.size) / float64(squashfs.size)
	b.table.atMost("size, bake --compress / mksquashfs", fmt.Sprintf("%.3f×", size), size, 1.15, "×")
	b.table.figure("mkfs.erofs / bake", ratioOf(erofs.times, plain.times).String())
	b.table.figure("size, bake / mkfs.erofs", fmt.Sprintf("%.3f×", float64(plain.size)/float64(erofs.size)))
	return nil
}

// A packer is one of the programs compared.
type packer struct {
	name  string
	args  []string
	app   string // what it writes: an app,
	image string // or a filesystem

	times    samples
	resident samples // MB
	size     int64   // of the filesystem, bytes
}

func (p *packer) measure(ctx context.Context, b *bench) error {
	took, err := p.pack(ctx, b)
	if err != nil {
		return err
	}
	p.times.addSeconds(took)
	return nil
}

// pack runs the packer once.
func (p *packer) pack(ctx context.Context, b *bench) (time.Duration, error) {
	for _, file := range []string{p.app, p.image} {
		if err := os.RemoveAll(file); err != nil {
			return 0, err
		}
	}
	cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	// Into a file: a pipe would have this program in the way.
	log, err := os.Create(filepath.Join(b.dir, "pack.log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	began := time.Now()
	err = cmd.Run()
	took := time.Since(began)
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(p.args, " "), err, said)
	}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		p.resident.add(float64(u.Maxrss) * 1024 / 1e6)
	}
	p.size, err = p.packed(ctx, b)
	return took, err
}

// packed is the length of the filesystem that was made.
func (p *packer) packed(ctx context.Context, b *bench) (int64, error) {
	if p.image != "" {
		info, err := os.Stat(p.image)
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	out, err := run(ctx, nil, filepath.Join(b.bin, "bake"), "inspect", "--json", p.app)
	if err != nil {
		return 0, err
	}
	var app struct {
		Parts []struct {
			Name string
			Size int64
		}
	}
	if err := json.Unmarshal([]byte(out), &app); err != nil {
		return 0, fmt.Errorf("read what bake inspect says of %s: %w", p.app, err)
	}
	for _, part := range app.Parts {
		if part.Name == "rootfs" {
			return part.Size, nil
		}
	}
	return 0, fmt.Errorf("%s has no root filesystem", p.app)
}

// debianTree unpacks a Debian with the packages, once for all runs.
func (b *bench) debianTree(ctx context.Context) (string, error) {
	tar, err := run(ctx, nil, "scripts/rootfs.sh", packages...)
	if err != nil {
		return "", err
	}
	tar = strings.TrimSpace(tar)
	tree := filepath.Join(b.cache, strings.TrimSuffix(filepath.Base(tar), ".tar"))
	if _, err := os.Stat(tree); err == nil {
		return tree, nil
	}
	work := filepath.Join(b.dir, "unpack")
	if err := os.Mkdir(work, 0o755); err != nil {
		return "", err
	}
	// Only root can make devices, and there are none that an image needs.
	if _, err := run(ctx, nil, "tar", "-C", work, "--exclude=./dev/*", "-xpf", tar); err != nil {
		return "", err
	}
	return tree, os.Rename(work, tree)
}

func sizeOf(tree string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(tree, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		files++
		if d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		err = errors.Join(errors.New("look at the tree to pack"), err)
	}
	return files, bytes, err
}
