//go:build linux

package vhostuser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"bake/internal/vsock"
)

// The tests in this file boot a real Linux under QEMU, without KVM. They need
//
//	BAKE_TEST_KERNEL    a vmlinux (PVH) with virtio-vsock, virtio-mmio and
//	                    virtio-pci built in
//	BAKE_TEST_MODULES   or, for a distribution's kernel: the modules for that,
//	                    in load order, separated by colons
//
// and QEMU on the PATH; what is named and does not work is a failure.
const (
	kernelVariable  = "BAKE_TEST_KERNEL"
	modulesVariable = "BAKE_TEST_MODULES"
)

// Ports of the guest's program, testguest.
const (
	portEcho    = 1000
	portSink    = 1001
	portSource  = 1002
	portControl = 1003
	portDrain   = 1004
	portLater   = 1005
	hostReady   = 1
)

var machines = map[string][]string{
	"microvm": {"-M", "microvm,acpi=off,memory-backend=mem", "-global", "virtio-mmio.force-legacy=false", "-device", "vhost-user-vsock-device,chardev=vsock"},
	"q35":     {"-M", "q35,memory-backend=mem", "-device", "vhost-user-vsock-pci,chardev=vsock"},
}

// A machine is a booted one.
type machine struct {
	*testDevice
	qemu    *exec.Cmd
	console *bytes.Buffer
	ready   net.Conn
	control net.Conn
	answers *bufio.Reader
}

// boot starts a machine and waits until its program runs.
func boot(t testing.TB, kind string) *machine {
	t.Helper()
	kernel := os.Getenv(kernelVariable)
	if kernel == "" {
		t.Skipf("%s names no kernel to boot: `make kernel` builds one, and `make test` sets the variable", kernelVariable)
	}
	if modules := os.Getenv(modulesVariable); modules != "" && kind == "microvm" {
		t.Skip("a distribution's kernel finds no device on a microvm without ACPI")
	}
	dir := socketDir(t)
	initrd := filepath.Join(dir, "initrd")
	makeInitrd(t, initrd)

	td := newTestDeviceIn(t, dir)
	ready, err := hybrid(td).Listen(hostReady)
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()

	m := &machine{testDevice: td, console: new(bytes.Buffer)}
	args := append([]string{
		"-accel", "tcg", "-cpu", "max,-erms", "-m", "512", "-smp", "1",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-object", "memory-backend-memfd,id=mem,size=512M,share=on",
		"-chardev", "socket,id=vsock,fd=3",
		"-kernel", kernel, "-initrd", initrd,
		// no_timer_check: on a busy host the emulated timer can miss the
		// kernel's test of the IO-APIC, which panics then.
		"-append", "console=ttyS0 quiet no_timer_check reboot=t panic=-1 rdinit=/init",
	}, machines[kind]...)
	m.qemu = exec.Command("qemu-system-x86_64", args...)
	m.qemu.ExtraFiles = []*os.File{os.NewFile(uintptr(td.front.fd), "front")}
	m.qemu.Stdout, m.qemu.Stderr = m.console, m.console
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := m.qemu.Start(); err != nil {
		t.Fatalf("start QEMU: %v", err)
	}
	// From here QEMU alone has this end: its exit is the hang-up.
	m.qemu.ExtraFiles[0].Close()
	td.front.fd = -1
	exited := make(chan struct{})
	go func() {
		m.qemu.Wait()
		close(exited)
		ready.Close()
	}()
	t.Cleanup(func() {
		if m.ready != nil {
			m.ready.Close() // the guest's program ends the machine
		}
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			t.Error("the guest does not power off")
			m.qemu.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("QEMU and the guest's console:\n%s", m.console)
		}
	})
	type result struct {
		conn net.Conn
		err  error
	}
	accepted := make(chan result, 1)
	go func() {
		c, err := ready.Accept()
		accepted <- result{c, err}
	}()
	select {
	case r := <-accepted:
		m.ready, err = r.conn, r.err
	case <-time.After(2 * time.Minute):
		m.qemu.Process.Kill()
		err = errors.New("no sign of it in two minutes")
	}
	if err != nil {
		t.Fatalf("the guest does not come up: %v", err)
	}
	m.control = dialHost(t, td, portControl)
	m.answers = bufio.NewReader(m.control)
	return m
}

func newTestDeviceIn(t testing.TB, dir string) *testDevice {
	return newTestDevice(t, func(c *Config) { c.Path = filepath.Join(dir, "v") })
}

// makeInitrd builds the guest's program and packs it.
func makeInitrd(t testing.TB, path string) {
	t.Helper()
	program := path + ".init"
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, "./testguest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build testguest: %v\n%s", err, out)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := cpio.NewWriter(f)
	add := func(name string, mode cpio.FileMode, from string) {
		var content []byte
		if from != "" {
			if content, err = os.ReadFile(from); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	add("init", cpio.TypeReg|0o755, program)
	if modules := os.Getenv(modulesVariable); modules != "" {
		add("modules", cpio.TypeDir|0o755, "")
		for i, from := range filepath.SplitList(modules) {
			add(fmt.Sprintf("modules/%02d.ko", i), cpio.TypeReg|0o644, from)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// order has the guest's program do something and returns its answer.
func (m *machine) order(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(m.control, format+"\n", args...); err != nil {
		return "", err
	}
	answer, err := m.answers.ReadString('\n')
	if err == nil && !strings.HasPrefix(answer, "ok") {
		err = fmt.Errorf("the guest's program says %s", answer)
	}
	return strings.TrimSpace(answer), err
}

// serveEcho sends back whatever the guest sends to a port.
func (m *machine) serveEcho(t testing.TB, port uint32) {
	l := listenHost(t, m.testDevice, port)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				io.Copy(c, c)
				c.(vsock.Conn).CloseWrite()
				io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
}

// patternReader gives n bytes of what testguest's sink expects.
type patternReader struct {
	n    int64
	word uint64
}

const patternStep = 0x9e3779b97f4a7c15

func (p *patternReader) Read(b []byte) (int, error) {
	if p.n == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n)&^7]
	for i := 0; i < len(b); i += 8 {
		p.word += patternStep
		binary.LittleEndian.PutUint64(b[i:], p.word)
	}
	p.n -= int64(len(b))
	return len(b), nil
}

// patternEqual reads to the end and checks against the pattern.
func patternEqual(r io.Reader, n int64) error {
	want := &patternReader{n: n}
	got, expected := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		k, err := io.ReadFull(r, got)
		io.ReadFull(want, expected[:k])
		if !bytes.Equal(got[:k], expected[:k]) {
			return fmt.Errorf("the stream is not the pattern in the %d bytes before %d", k, n-want.n)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if want.n != 0 {
		return fmt.Errorf("%d bytes are missing of %d", want.n, n)
	}
	return nil
}

// toSink sends n bytes of the pattern to the guest, which checks them.
func (m *machine) toSink(ctx context.Context, n int64) error {
	c, err := hybrid(m.testDevice).Dial(ctx, portSink)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{c}, &patternReader{n: n}, make([]byte, 64<<10)); err != nil {
		return err
	}
	if err := c.(vsock.Conn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if want := fmt.Sprintf("%d true\n", n); err != nil || string(answer) != want {
		return fmt.Errorf("the guest's sink says %q (%v), want %q", answer, err, want)
	}
	return nil
}

// fromSource reads n bytes of the pattern from the guest.
func (m *machine) fromSource(ctx context.Context, n int64) error {
	c, err := hybrid(m.testDevice).Dial(ctx, portSource)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))); err != nil {
		return err
	}
	return patternEqual(c, n)
}

func TestBoot(t *testing.T) {
	for kind := range machines {
		t.Run(kind, func(t *testing.T) {
			m := boot(t, kind)
			m.serveEcho(t, 2000)
			t.Run("to the guest", func(t *testing.T) {
				if err := m.toSink(t.Context(), 64<<20); err != nil {
					t.Error(err)
				}
			})
			t.Run("from the guest", func(t *testing.T) {
				if err := m.fromSource(t.Context(), 64<<20); err != nil {
					t.Error(err)
				}
			})
			t.Run("from the guest, which dials", func(t *testing.T) { testFlood(t, m) })
			t.Run("echo and half-close", func(t *testing.T) {
				conn := dialHost(t, m.testDevice, portEcho)
				want := random(16<<20, 1)
				go func() { conn.Write(want); conn.CloseWrite() }()
				if got, err := io.ReadAll(conn); !bytes.Equal(got, want) || err != nil {
					t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
				}
			})
			t.Run("refused", func(t *testing.T) {
				if _, err := hybrid(m.testDevice).Dial(t.Context(), 4000); !errors.Is(err, vsock.ErrRefused) {
					t.Errorf("Dial = %v, want ErrRefused", err)
				}
				if answer, err := m.order("parallel 4000 1"); err == nil || !strings.Contains(err.Error(), "reset") {
					t.Errorf("the guest dials a port nobody listens on: %q, %v", answer, err)
				}
			})
			t.Run("1000 from the host", func(t *testing.T) { testParallelFromHost(t, m) })
			t.Run("1000 from the guest", func(t *testing.T) {
				if _, err := m.order("parallel 2000 1000"); err != nil {
					t.Error(err)
				}
			})
			t.Run("1000 from both", func(t *testing.T) {
				done := make(chan error, 1)
				go func() { _, err := m.order("parallel 2000 1000"); done <- err }()
				testParallelFromHost(t, m)
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			t.Run("small packets, stalled reader", func(t *testing.T) { testSmallPackets(t, m) })
			t.Run("mixed, with stalled readers", func(t *testing.T) { testMixed(t, m) })
			if s := m.Stats(); s.Resets != 0 || s.Dropped != 0 {
				t.Errorf("stats %+v", s)
			}
			waitFor(t, "all connections but the two of the test to go", func() bool { return m.Stats().Open == 2 })
		})
	}
}

func testFlood(t *testing.T, m *machine) {
	l := listenHost(t, m.testDevice, 2001)
	done := make(chan error, 1)
	const n = 64 << 20
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = patternEqual(c, n)
			c.Close()
		}
		done <- err
	}()
	_, err := m.order("flood 2001 %d", n)
	if err := errors.Join(err, <-done); err != nil {
		t.Error(err)
	}
}

func testParallelFromHost(t *testing.T, m *machine) {
	var all errgroup.Group
	var connected sync.WaitGroup
	connected.Add(many)
	for i := range many {
		all.Go(func() error {
			c, err := hybrid(m.testDevice).Dial(t.Context(), portEcho)
			connected.Done()
			connected.Wait()
			if err != nil {
				return err
			}
			defer c.Close()
			return echo(c.(vsock.Conn), i)
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

// Linux accounts for the memory of each packet that waits for a reader, and
// resets a connection that has too many small ones.
func testSmallPackets(t *testing.T, m *machine) {
	for _, size := range []int{136, 1024} {
		c := dialHost(t, m.testDevice, portLater)
		const n = 200 << 10
		p := &patternReader{n: n / int64(size) * int64(size)}
		total, sent := p.n, m.Stats().BytesToGuest
		for b := make([]byte, size); ; {
			k, err := p.Read(b)
			if err == io.EOF {
				break
			}
			c.Write(b[:k])
			// Each goes in a packet of its own if it is taken before the next.
			sent += uint64(k)
			for m.Stats().BytesToGuest != sent {
				runtime.Gosched()
			}
		}
		c.CloseWrite()
		if _, err := m.order("release 0 1"); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); err != nil || string(answer) != fmt.Sprintf("%d true\n", total) {
			t.Errorf("%d bytes in packets of %d: the guest read %q, %v", total, size, answer, err)
		}
	}
}

func testMixed(t *testing.T, m *machine) {
	const n = 4 << 20
	var stalled []net.Conn
	for range 3 {
		c := dialHost(t, m.testDevice, portSource)
		c.Write(binary.LittleEndian.AppendUint64(nil, n))
		stalled = append(stalled, c)
	}
	var all errgroup.Group
	for range 10 {
		all.Go(func() error { return m.toSink(t.Context(), n) })
		all.Go(func() error { return m.fromSource(t.Context(), n) })
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	for _, c := range stalled[:2] {
		if err := patternEqual(c, n); err != nil {
			t.Errorf("a reader that had stalled: %v", err)
		}
	}
	stalled[2].Close() // unread
}

// A guest that dies takes nothing with it that it has sent.
func TestBootKilled(t *testing.T) {
	m := boot(t, "q35")
	c := dialHost(t, m.testDevice, portSource)
	c.Write(binary.LittleEndian.AppendUint64(nil, 256<<10))
	waitFor(t, "the data to pass", func() bool { return m.Stats().BytesToHost >= 256<<10 })
	m.qemu.Process.Kill()
	if err := patternEqual(c, 256<<10); err != nil {
		t.Error(err)
	}
	if err := <-m.serve; err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
	m.testDevice.serve = nil
}

// BenchmarkBoot measures a booted machine: go test -run - -bench Boot.
func BenchmarkBoot(b *testing.B) {
	for _, kind := range []string{"microvm", "q35"} {
		b.Run(kind, func(b *testing.B) {
			m := boot(b, kind)
			m.serveEcho(b, 2000)
			b.Run("bulk from guest", func(b *testing.B) { benchFromGuest(b, m) })
			b.Run("bulk to guest", func(b *testing.B) { benchToGuest(b, m) })
			b.Run("ping-pong, host", func(b *testing.B) { benchPingPong(b, m) })
			b.Run("ping-pong, guest", func(b *testing.B) {
				answer, err := m.order("pingpong 2000 %d", b.N)
				if err != nil {
					b.Fatal(err)
				}
				var total, p50, p99 float64
				if _, err := fmt.Sscanf(answer, "ok %f p50 %f p99 %f", &total, &p50, &p99); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(p50, "p50-µs")
				b.ReportMetric(p99, "p99-µs")
			})
			b.Run("connect, host", func(b *testing.B) {
				for i := range b.N {
					c := dialHost(b, m.testDevice, portEcho)
					if err := echo(c, i); err != nil {
						b.Fatal(err)
					}
					c.Close()
				}
			})
			b.Run("connect, guest", func(b *testing.B) {
				if _, err := m.order("sequence 2000 %d", b.N); err != nil {
					b.Fatal(err)
				}
			})
			b.Logf("%+v", m.Stats())
		})
	}
}

const bulk = 64 << 20

func benchFromGuest(b *testing.B, m *machine) {
	b.SetBytes(bulk)
	c := dialHost(b, m.testDevice, portSource)
	c.Write(binary.LittleEndian.AppendUint64(nil, uint64(b.N)*bulk))
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 64<<10))
	if err != nil || n != int64(b.N)*bulk {
		b.Fatalf("%d bytes, %v", n, err)
	}
}

func benchToGuest(b *testing.B, m *machine) {
	b.SetBytes(bulk)
	c := dialHost(b, m.testDevice, portDrain)
	data := make([]byte, 64<<10)
	for range b.N * (bulk / len(data)) {
		if _, err := c.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	c.CloseWrite()
	if answer, err := io.ReadAll(c); err != nil || string(answer) != fmt.Sprintf("%d true\n", b.N*bulk) {
		b.Fatalf("%q, %v", answer, err)
	}
}

func benchPingPong(b *testing.B, m *machine) {
	c := dialHost(b, m.testDevice, portEcho)
	var rounds []time.Duration
	for range b.N {
		var p [1]byte
		start := time.Now()
		c.Write(p[:])
		if _, err := io.ReadFull(c, p[:]); err != nil {
			b.Fatal(err)
		}
		rounds = append(rounds, time.Since(start))
	}
	slices.Sort(rounds)
	b.ReportMetric(float64(rounds[len(rounds)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(rounds[len(rounds)*99/100].Microseconds()), "p99-µs")
}
