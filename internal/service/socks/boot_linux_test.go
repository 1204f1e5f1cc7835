package socks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"

	"bake/internal/hypervisor"
	"bake/internal/hypervisor/qemu"
	"bake/internal/relay"
	"bake/internal/service/egress"
	"bake/internal/wire"
)

// The order and the answer are those of the guest's program, testguest.
const portOrders = 1000

type order struct {
	Do    string
	To    netip.AddrPort
	Count int
}

type answer struct {
	Error      string
	Refused    int
	End        string
	Bytes      int
	Goroutines int
	Files      int
}

// A guest is a real one, whose port 10 of the host is served.
type guest struct {
	hypervisor.VM
	t testing.TB
}

// bootGuest boots the kernel of $BAKE_TEST_KERNEL, with all built in, and with
// testguest in it.
func bootGuest(t testing.TB) *guest {
	t.Helper()
	path := os.Getenv("BAKE_TEST_KERNEL")
	if path == "" || os.Getenv("BAKE_TEST_MODULES") != "" {
		t.Skip("BAKE_TEST_KERNEL names no kernel of bake's own to boot; `make test` sets it")
	}
	kernel, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kernel.Close() })
	dir, err := os.MkdirTemp("", "vm") // a short name, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var console bytes.Buffer // written by one goroutine until Close
	vm, err := (&qemu.Driver{Warnf: t.Logf}).New(t.Context(), hypervisor.Config{
		Arch:        "amd64",
		Kernel:      hypervisor.Resource{Name: "kernel", File: kernel, Size: -1},
		Initrd:      hypervisor.Resource{Name: "initrd", Bytes: guestInitrd(t)},
		CommandLine: "quiet",
		CPUs:        1,
		MemoryMiB:   256,
		Dir:         dir,
		Console:     &console,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := vm.ListenVsock(wire.PortSOCKS)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	gate := egress.New(egress.Options{Network: wire.DefaultNetwork(false), Policy: open{}})
	go func() { served <- Serve(ctx, l, gate, nil) }()
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if t.Failed() {
			t.Logf("the guest's console:\n%s", console.String())
		}
	})
	if err := vm.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &guest{vm, t}
}

func guestInitrd(t testing.TB) []byte {
	t.Helper()
	program := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./testguest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build testguest: %v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := cpio.NewWriter(&archive)
	if err := w.WriteHeader(&cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(content)), Links: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// order has the guest do something. The first one waits for the guest.
func (g *guest) order(o order) answer {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var c net.Conn
	for {
		var err error
		if c, err = g.DialVsock(ctx, portOrders); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			g.t.Fatalf("the guest does not come up: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var a answer
	if err := json.NewEncoder(c).Encode(o); err != nil {
		g.t.Fatal(err)
	}
	if err := json.NewDecoder(c).Decode(&a); err != nil {
		g.t.Fatalf("%s: %v", o.Do, err)
	}
	if a.Error != "" {
		g.t.Errorf("%s: %s", o.Do, a.Error)
	}
	return a
}

// How a connection ends comes through a real vsock, both ways, though Linux's
// tells a reset from an end to nobody.
func TestBoot(t *testing.T) {
	g := bootGuest(t)

	const size = 1 << 20
	if a := g.order(order{Do: "echo", To: serveTCP(t, echo), Count: size}); a.End != "EOF" || a.Bytes != size {
		t.Errorf("an echo with half-close: %+v", a)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	if a := g.order(order{Do: "read", To: dead}); a.Refused != int(syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %+v", a)
	}
	if a := g.order(order{Do: "read", To: netip.MustParseAddrPort("203.0.113.9:80")}); a.Refused != int(syscall.EPERM) {
		t.Errorf("a denial: %+v", a)
	}

	for _, c := range []struct {
		do     string
		server func(*net.TCPConn)
		want   string
		bytes  int
	}{
		{"read", func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, _ = c.Write(make([]byte, size))
		}, "EOF", size},
		{"read", func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, _ = io.WriteString(c, "half of it")
			relay.Reset(c)
		}, "reset", -1},
		// What package relay is for. Should this fail, Linux has learnt to tell.
		{"plain", func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			relay.Reset(c)
		}, "EOF", 0},
		{"end, read", func(c *net.TCPConn) {
			_, _ = io.ReadAll(c)
			_, _ = c.Write(make([]byte, size))
		}, "EOF", size},
		{"end, read", func(c *net.TCPConn) {
			_, _ = io.ReadAll(c)
			_, _ = c.Write(make([]byte, 100))
			relay.Reset(c)
		}, "reset", -1},
	} {
		a := g.order(order{Do: c.do, To: serveTCP(t, c.server)})
		if a.End != c.want || c.bytes >= 0 && a.Bytes != c.bytes {
			t.Errorf("%s: %+v, want %s and %d bytes", c.do, a, c.want, c.bytes)
		}
	}

	read := make(chan error, 1)
	for _, do := range []string{"reset", "read, reset"} {
		a := g.order(order{Do: do, To: serveTCP(t, func(c *net.TCPConn) {
			if do != "reset" {
				_ = c.CloseWrite()
			}
			_, err := io.ReadAll(c)
			read <- err
		})})
		if err := <-read; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %+v, and the server reads %v", do, a, err)
		}
	}

	// What the guest and we hold before and after.
	server := serveTCP(t, echo)
	before, ours := g.order(order{Do: "use"}), use(t)
	for _, o := range []order{{"parallel", server, 1000}, {"sequence", server, 1000}} {
		g.order(o)
	}
	ours.isLeft(t)
	var after answer
	for deadline := time.Now().Add(time.Minute); ; {
		after = g.order(order{Do: "use"})
		if after.Goroutines <= before.Goroutines && after.Files <= before.Files {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the guest's program has %+v, and had %+v", after, before)
		}
	}
}
