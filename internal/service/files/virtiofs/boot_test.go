//go:build linux

package virtiofs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"golang.org/x/sys/unix"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/qemu"
	"bake/internal/service/files/tree"
	"bake/internal/service/files/virtiofs"
)

// The tests in this file boot $BAKE_TEST_KERNEL, which has virtiofs built in,
// with package testguest and a static busybox ($BAKE_TEST_BUSYBOX, or the one
// on PATH).

// The ports of testguest.
const (
	portRun   = 1000
	portReady = 1001
)

// limit is how long anything may take before a test calls it hung.
const limit = 3 * time.Minute

// TestMain sets what package tree asks of its process.
func TestMain(m *testing.M) {
	unix.Umask(0)
	os.Exit(m.Run())
}

// A server serves dir, and returns QEMU's end of its socket.
type server func(t testing.TB, dir string) *os.File

// ours is package virtiofs.
func ours(o virtiofs.Options, to tree.Options) server {
	return func(t testing.TB, dir string) *os.File {
		t.Helper()
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		socket := os.NewFile(uintptr(pair[0]), "server")
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		shared, err := tree.Open(f, to)
		if err != nil {
			t.Fatal(err)
		}
		if o.Logf == nil {
			o.Logf = t.Logf
		}
		served := make(chan error, 1)
		go func() { served <- virtiofs.Serve(context.Background(), socket, shared, o) }()
		t.Cleanup(func() {
			select {
			case err := <-served:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(limit):
				t.Error("the server does not end with its machine")
			}
			shared.Close()
		})
		return os.NewFile(uintptr(pair[1]), "QEMU")
	}
}

// A share is a directory with its server.
type share struct {
	dir   string
	serve server
}

// A guest is a booted machine. Its shares are mounted on /bake0, /bake1, ...
type guest struct {
	t  testing.TB
	vm hypervisor.VM
}

// command is QEMU; empty for the one that is found.
func bootGuest(t testing.TB, machine string, command []string, shares ...share) *guest {
	t.Helper()
	path := os.Getenv("BAKE_TEST_KERNEL")
	if path == "" {
		t.Skip("BAKE_TEST_KERNEL names no kernel to boot; `make test` sets it")
	}
	kernel, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	dir, err := os.MkdirTemp("", "vfs") // not TempDir: its names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	console, err := os.Create(filepath.Join(dir, "console"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(console.Name())
			t.Logf("console:\n%s", b)
		}
		console.Close()
	})
	cfg := hypervisor.Config{
		Arch:        runtime.GOARCH,
		Kernel:      hypervisor.Resource{Name: "kernel", File: kernel, Size: -1},
		Initrd:      hypervisor.Resource{Name: "initrd", Bytes: initrd(t)},
		CommandLine: "quiet",
		CPUs:        1,
		MemoryMiB:   512,
		Dir:         dir,
		Console:     console,
	}
	var peers []*os.File
	for i, s := range shares {
		peer := s.serve(t, s.dir)
		peers = append(peers, peer)
		cfg.Shares = append(cfg.Shares, hypervisor.Share{Tag: fmt.Sprintf("bake%d", i), Socket: peer})
	}
	vm, err := (&qemu.Driver{Machine: machine, Command: command}).New(t.Context(), cfg)
	for _, p := range peers {
		p.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	ready, err := vm.ListenVsock(portReady)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
		ready.Close()
	})
	if err := vm.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(limit, func() { vm.Close() })
	go func() {
		vm.Wait()
		ready.Close()
	}()
	conn, err := ready.Accept()
	stop.Stop()
	if err != nil {
		exit, _ := vm.Wait()
		t.Fatalf("the guest does not come up: %+v", exit)
	}
	g := &guest{t, vm}
	t.Cleanup(func() { conn.Close() })
	for i := range shares {
		g.sh(fmt.Sprintf("mkdir /bake%d && mount -t virtiofs bake%d /bake%d", i, i, i))
	}
	return g
}

// initrd is testguest and busybox.
func initrd(t testing.TB) []byte {
	t.Helper()
	busybox := os.Getenv("BAKE_TEST_BUSYBOX")
	if busybox == "" {
		var err error
		if busybox, err = exec.LookPath("busybox"); err != nil {
			t.Fatalf("%v: the guest's shell is a static busybox", err)
		}
	}
	program := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./testguest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build testguest: %v\n%s", err, out)
	}
	var archive bytes.Buffer
	w := cpio.NewWriter(&archive)
	for _, f := range []struct {
		name, from string
		mode       cpio.FileMode
	}{
		{"dev", "", cpio.TypeDir | 0o755},
		{"bin", "", cpio.TypeDir | 0o755},
		{"init", program, cpio.TypeReg | 0o755},
		{"bin/busybox", busybox, cpio.TypeReg | 0o755},
	} {
		var content []byte
		if f.from != "" {
			var err error
			if content, err = os.ReadFile(f.from); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.WriteHeader(&cpio.Header{Name: f.name, Mode: f.mode, Size: int64(len(content)), Links: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// run runs a command in the guest.
func (g *guest) run(argv ...string) (string, int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := g.vm.DialVsock(ctx, portRun)
	if err != nil {
		return "", 0, err
	}
	defer conn.Close()
	if err := exchange(conn, argv, ctx); err != nil {
		return "", 0, err
	}
	var r struct {
		Output string
		Code   int
	}
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return "", 0, fmt.Errorf("the guest does not answer %q: %w", argv, err)
	}
	return r.Output, r.Code, nil
}

func exchange(conn net.Conn, argv []string, ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	return json.NewEncoder(conn).Encode(argv)
}

// must runs a command that must end well, and returns what it writes.
func (g *guest) must(argv ...string) string {
	g.t.Helper()
	out, code, err := g.run(argv...)
	if err != nil || code != 0 {
		g.t.Fatalf("%q in the guest: exit status %d, %v\n%s", argv, code, err, out)
	}
	return strings.TrimSuffix(out, "\n")
}

func (g *guest) sh(script string) string {
	g.t.Helper()
	return g.must("/bin/sh", "-ec", script)
}
