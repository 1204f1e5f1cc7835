//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	openRounds = 21
	smallApp   = 50e6 // bytes, about
	largeApp   = 2e9
)

// opening compares how long a large and a small app take from their start to
// the start of their VMM, which a stub stands in for. What the apps are large
// by is a file of random bytes, all of them on the disk.
func opening(ctx context.Context, b *bench) error {
	stub, err := b.cc(ctx, "stub/qemu.c")
	if err != nil {
		return err
	}
	bare, err := b.busyboxApp(ctx)
	if err != nil {
		return err
	}
	info, err := os.Stat(bare)
	if err != nil {
		return err
	}
	p, err := planOf(ctx, bare)
	if err != nil {
		return err
	}
	o := &opener{
		stamp: filepath.Join(b.dir, "stamp"),
		env: append(environment(), "BAKE_QEMU="+stub, "BENCH_QEMU="+p.Command[0],
			"BENCH_STAMP="+filepath.Join(b.dir, "stamp"), "XDG_CACHE_HOME="+filepath.Join(b.dir, "open-cache")),
	}
	small, err := b.paddedApp(ctx, "small", smallApp-info.Size())
	if err != nil {
		return err
	}
	large, err := b.paddedApp(ctx, "large", largeApp-info.Size())
	if err != nil {
		return err
	}
	var ofSmall, ofLarge samples
	for round := range openRounds + 1 {
		s, err := o.open(ctx, small)
		if err != nil {
			return err
		}
		l, err := o.open(ctx, large)
		if err != nil {
			return err
		}
		if round == 0 {
			continue // asks the stub what it can do
		}
		ofSmall.add(s.Seconds() * 1000)
		ofLarge.add(l.Seconds() * 1000)
	}
	b.table.figure("50 MB app to its VMM, ms", ofSmall.text("%.1f"))
	b.table.figure("2 GB app to its VMM, ms", ofLarge.text("%.1f"))
	r := ratioOf(ofLarge, ofSmall)
	b.table.atMost("2 GB / 50 MB", r.String(), r.value, 1.2, "×")
	return nil
}

// paddedApp builds an app with extra bytes that no compression takes away.
func (b *bench) paddedApp(ctx context.Context, name string, extra int64) (string, error) {
	root, err := b.busyboxTree(name)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	f, err := os.Create(filepath.Join(root, "random"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{}), extra); err != nil {
		return "", fmt.Errorf("write random bytes: %w", err)
	}
	app := filepath.Join(b.dir, name+".app")
	if err := b.bake(ctx, root, app, "--entrypoint", "/bin/sh"); err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(app, &st); err != nil {
		return "", err
	}
	if st.Size < extra || st.Blocks*512 < extra {
		return "", fmt.Errorf("%s is to hold %d random bytes and has %d, %d of them on the disk", app, extra, st.Size, st.Blocks*512)
	}
	return app, nil
}

type opener struct {
	env   []string
	stamp string // the file that the stub writes
}

// open starts an app and returns how long it took until it ran its VMM.
func (o *opener) open(ctx context.Context, app string) (time.Duration, error) {
	if err := os.RemoveAll(o.stamp); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, app)
	cmd.Env = append(os.Environ(), o.env...)
	var began unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &began); err != nil {
		return 0, err
	}
	// A VMM that ends at once is a failure to the app.
	out, _ := cmd.CombinedOutput()
	text, err := os.ReadFile(o.stamp)
	if err != nil {
		return 0, fmt.Errorf("%s did not start its VMM: %w\n%s", app, err, out)
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the time that the VMM started: %w", err)
	}
	return time.Duration(at - began.Nano()), nil
}
