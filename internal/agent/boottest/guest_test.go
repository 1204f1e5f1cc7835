//go:build boot && linux

package boottest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/vhostuser"
	"bake/internal/vsock"
	"bake/internal/wire"
)

// bootLimit ends a guest that hangs; it is a failure, not a measurement.
const bootLimit = 90 * time.Second

// A disk is a volume.
type disk struct {
	path     string
	readOnly bool
}

// A guest is one boot: what the host gives, and what it saw.
type guest struct {
	t        *testing.T
	manifest wire.BootManifest
	rawFrame []byte // served in place of the manifest
	// stdin is the host's standard input; nil ends at once.
	stdin io.Reader
	// closeStdout is after how many bytes the host closes stdout; 0 is never.
	closeStdout int
	clock       int64 // in place of the host's
	memory      int
	image       string
	append      string
	noSerial    bool
	disks       []disk           // from /dev/vdc on
	files       func(c net.Conn) // the file server
	noDone      bool
	noVsock     bool
	stuckStdout bool
	killed      atomic.Bool
	// onStarted runs when the container does, onHello and onExit with those
	// messages.
	onStarted, onHello, onExit func(g *guest)
	// onOutput is called with all that came on stdout or the terminal so far.
	onOutput func(g *guest, all string)

	sock    vsock.Hybrid
	qemu    *exec.Cmd
	mu      sync.Mutex
	control net.Conn
	tty     net.Conn

	stdout, stderr, console bytes.Buffer
	messages                []wire.GuestMessage
	times                   map[string]time.Duration
	unstick                 sync.WaitGroup // held while the guest runs
}

func (g *guest) send(m wire.HostMessage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := wire.WriteHostMessage(g.control, m); err != nil {
		g.t.Errorf("send %+v: %v", m, err)
	}
}

func (g *guest) signal(name string) { g.send(wire.HostMessage{Type: wire.HostSignal, Signal: name}) }

func (g *guest) typeText(s string) {
	if _, err := io.WriteString(g.tty, s); err != nil {
		g.t.Errorf("type %q: %v", s, err)
	}
}

// last is the guest's last message.
func (g *guest) last() wire.GuestMessage {
	if len(g.messages) == 0 {
		return wire.GuestMessage{}
	}
	return g.messages[len(g.messages)-1]
}

// command sets the command of the container.
func (g *guest) command(args ...string) *guest {
	g.manifest.Process.Args = args
	return g
}

func newGuest(t *testing.T, args ...string) *guest {
	return &guest{
		t: t, memory: 256, image: image, append: "quiet",
		manifest: wire.BootManifest{
			Version: wire.ManifestVersion, Hostname: "bakery", UnixNano: time.Now().UnixNano(),
			Rootfs:    wire.Rootfs{Device: "/dev/vda", Type: "erofs"},
			Ephemeral: wire.Ephemeral{Device: "/dev/vdb", Type: "ext4"},
			Process:   wire.Process{Args: args},
		},
		times: map[string]time.Duration{},
	}
}

// boot runs the guest to its end.
func (g *guest) boot() *guest {
	t := g.t
	t.Helper()
	dir, err := os.MkdirTemp("", "boot")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g.sock = vsock.Hybrid{Path: filepath.Join(dir, "v")}
	device, err := vhostuser.New(vhostuser.Config{CID: wire.GuestCID, Path: g.sock.Path, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() {
		if err := device.Serve(ctx, os.NewFile(uintptr(pair[0]), "front")); err != nil && ctx.Err() == nil {
			t.Errorf("vsock: %v", err)
		}
	})
	start := time.Now()
	mark := func(what string) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if _, ok := g.times[what]; !ok {
			g.times[what] = time.Since(start)
		}
	}
	g.listen(&running, wire.PortManifest, g.serveManifest)
	g.listen(&running, wire.PortConsole, g.serveConsole)
	if g.files != nil {
		g.listen(&running, wire.PortFiles, g.files)
	}
	g.listen(&running, wire.PortControl, func(c net.Conn) { g.serveControl(c, mark) })

	ephemeral := filepath.Join(dir, "ephemeral")
	makeEphemeral(t, ephemeral)
	g.qemu = exec.CommandContext(ctx, qemus[arch], g.arguments(ephemeral)...)
	g.qemu.ExtraFiles = []*os.File{os.NewFile(uintptr(pair[1]), "back")}
	g.qemu.Stdout, g.qemu.Stderr = &g.console, &g.console
	g.unstick.Add(1)
	start = time.Now()
	err = g.qemu.Run()
	g.unstick.Done()
	mark("end")
	g.qemu.ExtraFiles[0].Close()
	if ctx.Err() != nil {
		t.Errorf("the guest hung; its console:\n%s", g.console.String())
	} else if err != nil {
		t.Errorf("qemu: %v; its console:\n%s", err, g.console.String())
	}
	g.closeListeners()
	running.Wait()
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("messages %+v\ntimes %v\nconsole:\n%s", g.messages, g.times, g.console.String())
		}
	})
	return g
}

var listeners = struct {
	sync.Mutex
	of map[*guest][]net.Listener
}{of: map[*guest][]net.Listener{}}

func (g *guest) listen(running *sync.WaitGroup, port uint32, serve func(net.Conn)) {
	l, err := g.sock.Listen(port)
	if err != nil {
		g.t.Fatal(err)
	}
	listeners.Lock()
	listeners.of[g] = append(listeners.of[g], l)
	listeners.Unlock()
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
}

func (g *guest) closeListeners() {
	listeners.Lock()
	defer listeners.Unlock()
	for _, l := range listeners.of[g] {
		l.Close()
	}
	delete(listeners.of, g)
}

func (g *guest) serveManifest(c net.Conn) {
	if g.rawFrame != nil {
		if err := wire.WriteFrame(c, g.rawFrame, wire.ManifestLimit); err != nil {
			g.t.Error(err)
		}
		return
	}
	g.manifest.UnixNano = time.Now().UnixNano()
	if g.clock != 0 {
		g.manifest.UnixNano = g.clock
	}
	if err := wire.WriteManifest(c, &g.manifest); err != nil {
		g.t.Error(err)
	}
}

func (g *guest) serveConsole(c net.Conn) {
	s, err := wire.ReadConsoleHello(c)
	if err != nil {
		g.t.Error(err)
		return
	}
	switch s {
	case wire.Stdin:
		if g.stdin != nil {
			// The guest may close it first.
			_, _ = io.Copy(c, g.stdin)
		}
		_ = c.(vsock.Conn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	case wire.Stdout, wire.TTY:
		if s == wire.TTY {
			g.mu.Lock()
			g.tty = c
			g.mu.Unlock()
		}
		if g.stuckStdout {
			g.unstick.Wait()
			return
		}
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			g.stdout.Write(buf[:n])
			if n > 0 && g.onOutput != nil {
				g.onOutput(g, g.stdout.String())
			}
			if err != nil || g.closeStdout > 0 && g.stdout.Len() >= g.closeStdout {
				return
			}
		}
	case wire.Stderr:
		if _, err := io.Copy(&g.stderr, c); err != nil {
			g.t.Errorf("read stderr: %v", err)
		}
	}
}

func (g *guest) serveControl(c net.Conn, mark func(string)) {
	g.mu.Lock()
	g.control = c
	g.mu.Unlock()
	for {
		m, err := wire.ReadGuestMessage(c)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				g.t.Logf("control ends: %v", err)
			}
			return
		}
		mark(m.Type)
		g.messages = append(g.messages, m)
		switch m.Type {
		case wire.GuestHello:
			if g.onHello != nil {
				g.onHello(g)
			}
		case wire.GuestStarted:
			if g.onStarted != nil {
				g.onStarted(g)
			}
		case wire.GuestExit, wire.GuestFailed:
			if g.onExit != nil {
				g.onExit(g)
			}
			if !g.noDone {
				g.send(wire.HostMessage{Type: wire.HostDone})
			}
		}
	}
}

var qemus = map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}

// microvm says whether the guest is booted on that machine, which has no PCI.
func microvm() bool { return arch == "amd64" && modules == "" }

func (g *guest) arguments(ephemeral string) []string {
	disk := func(id, file string, readOnly bool) []string {
		device := "virtio-blk-pci"
		if microvm() {
			device = "virtio-blk-device"
		}
		return []string{
			"-drive", fmt.Sprintf("id=%s,file=%s,format=raw,if=none,readonly=%v,discard=unmap", id, file, map[bool]string{true: "on", false: "off"}[readOnly]),
			"-device", device + ",drive=" + id,
		}
	}
	machine, cpu, console, vsockDevice := "q35", "max,-erms", "ttyS0", "vhost-user-vsock-pci"
	switch {
	case microvm():
		machine, vsockDevice = "microvm,acpi=off,x-option-roms=off", "vhost-user-vsock-device"
		if g.noSerial {
			machine += ",isa-serial=off"
		}
	case arch == "arm64":
		machine, cpu, console = "virt", "max,pauth-impdef=on", "ttyAMA0"
	}
	args := []string{
		"-M", machine + ",memory-backend=mem", "-accel", "tcg", "-cpu", cpu, "-m", fmt.Sprint(g.memory), "-smp", "1",
		"-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on", g.memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-global", "virtio-mmio.force-legacy=false",
		"-kernel", kernel, "-initrd", initrdFile,
		"-append", "console=" + console + " reboot=t panic=-1 no_timer_check " + g.append,
	}
	if !g.noVsock {
		args = append(args, "-chardev", "socket,id=vs,fd=3", "-device", vsockDevice+",chardev=vs")
	}
	if !g.noSerial {
		args = append(args, "-serial", "stdio")
	}
	args = append(args, disk("a", g.image, true)...)
	args = append(args, disk("b", ephemeral, false)...)
	for i, d := range g.disks {
		args = append(args, disk(fmt.Sprint("volume", i), d.path, d.readOnly)...)
	}
	return args
}

func makeEphemeral(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(512 << 20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", path).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
}

// wantExit checks that the container ran and ended with a code and a signal.
func (g *guest) wantExit(code int, signal string) {
	g.t.Helper()
	m := g.last()
	if m.Type != wire.GuestExit || m.Code != code || m.Signal != signal {
		g.t.Errorf("the guest says %+v, want an exit with code %d and signal %q", m, code, signal)
	}
}

// wantFailed checks that the guest failed with a code and a sentence that has
// all the words.
func (g *guest) wantFailed(code int, words ...string) {
	g.t.Helper()
	m := g.last()
	if m.Type != wire.GuestFailed || m.Code != code {
		g.t.Errorf("the guest says %+v, want a failure with code %d", m, code)
	}
	for _, w := range words {
		if !strings.Contains(m.Message, w) {
			g.t.Errorf("the guest says %q, which lacks %q", m.Message, w)
		}
	}
}

func (g *guest) wantOutput(want string) {
	g.t.Helper()
	if got := g.stdout.String(); got != want {
		g.t.Errorf("stdout is %.500q, want %.500q; stderr is %.500q", got, want, g.stderr.String())
	}
}
