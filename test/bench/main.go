//go:build linux

// Command bench measures bake against its peers on this machine and prints the
// figures as ratios, with the targets that they hit or miss.
//
//	bench [-bin DIR] [-cache DIR] [NAME...]
//
// runs the named benchmarks, or all. The two sides of each ratio are measured
// in the same run and by turns (A B A B …), so that what else the machine does
// weighs on both; a figure is the median of the rounds, with the least and the
// greatest beside it. A missed target is no error: only a measurement that
// cannot be made is.
//
// The kernel is the one that $BAKE_TEST_KERNEL names.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A benchmark is one part of the table.
type benchmark struct {
	name, about string
	run         func(context.Context, *bench) error
}

func benchmarks() []benchmark {
	return []benchmark{
		{"output", "app start to the container's first byte, against the same VM with an init that only prints", firstOutput},
		{"open", "app start to its VMM's start, a 2 GB app against a 50 MB one", opening},
		{"idle", "memory of the app's process while its container sleeps", idle},
		{"vsock", "vsock against virtio-serial and QEMU's user network in one guest", vsockTraffic},
		{"net", "the guest's network against QEMU's user network and gvproxy in one guest", measureNet},
		{"files", "volumes against QEMU's 9P and Debian's virtiofsd, each pair in one guest", measureFiles},
		{"pack", "bake build against mksquashfs and mkfs.erofs on one tree", packing},
	}
}

// A bench is what all benchmarks share.
type bench struct {
	bin    string // the directory of bake's executables
	cache  string // what is made once for many runs
	dir    string // of this run, removed after it
	kernel string // the kernel bundle's directory
	table  table
}

func main() {
	b := &bench{}
	flag.StringVar(&b.bin, "bin", "bin", "the `directory` of bake's executables")
	flag.StringVar(&b.cache, "cache", "", "the `directory` for what later runs can use again")
	flag.Usage = usage
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.main(ctx, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(flag.CommandLine.Output(), "usage: bench [flags] [NAME...]")
	for _, m := range benchmarks() {
		fmt.Fprintf(flag.CommandLine.Output(), "  %-8s %s\n", m.name, m.about)
	}
	flag.PrintDefaults()
}

func (b *bench) main(ctx context.Context, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(benchmarks(), func(m benchmark) bool { return m.name == name }) {
			return fmt.Errorf("there is no benchmark %q", name)
		}
	}
	if err := b.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	var errs []error
	for _, m := range benchmarks() {
		if len(names) > 0 && !slices.Contains(names, m.name) {
			continue
		}
		fmt.Printf("\n== %s: %s\n   load average at the start: %s\n", m.name, m.about, load())
		began := time.Now()
		b.table.section(m.name)
		if err := m.run(ctx, b); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.name, err))
			fmt.Printf("   could not be measured: %v\n", err)
		}
		fmt.Printf("   took %.0f s\n", time.Since(began).Seconds())
	}
	b.table.print(os.Stdout)
	return errors.Join(errs...)
}

// prepare finds what is to be measured and makes the directories.
func (b *bench) prepare() (err error) {
	kernel := os.Getenv("BAKE_TEST_KERNEL")
	if kernel == "" {
		return errors.New("BAKE_TEST_KERNEL does not name a kernel; `make bench` sets it")
	}
	b.kernel = filepath.Dir(kernel)
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(b.bin, "bake")); err != nil {
		return fmt.Errorf("there is no bake to measure, run `make build initrd`: %w", err)
	}
	if b.cache == "" {
		b.cache = os.Getenv("CACHE") // the Makefile's
	}
	if b.cache == "" {
		if b.cache, err = os.UserCacheDir(); err != nil {
			return err
		}
		b.cache = filepath.Join(b.cache, "bake")
	}
	b.cache = filepath.Join(b.cache, "bench")
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return err
	}
	// Beside the cache, because it is large; with a short name, because Unix
	// sockets are made in it.
	b.dir, err = os.MkdirTemp(b.cache, "run-")
	return err
}

// load is the machine's load average, which says how far to trust a figure.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
