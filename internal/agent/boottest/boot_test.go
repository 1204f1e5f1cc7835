//go:build boot && linux

package boottest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/wire"
)

func TestEcho(t *testing.T) {
	g := newGuest(t, "echo", "hello world")
	g.manifest.Verbose = true
	g.boot()
	g.wantExit(0, "")
	g.wantOutput("hello world\n")
	if g.messages[0].Type != wire.GuestHello || g.messages[1].Type != wire.GuestStarted || len(g.messages) != 3 {
		t.Errorf("the guest says %+v", g.messages)
	}
	if m := g.messages[0]; m.Agent == "" || m.Kernel == "" {
		t.Errorf("hello is %+v", m)
	}
}

func TestStreamsAreApart(t *testing.T) {
	g := newGuest(t, "sh", "-c", "echo out; echo err >&2; exit 3").boot()
	g.wantExit(3, "")
	g.wantOutput("out\n")
	if g.stderr.String() != "err\n" {
		t.Errorf("stderr is %q", g.stderr.String())
	}
}

// Twenty megabytes of noise go through cat and come back whole.
func TestCat(t *testing.T) {
	data := make([]byte, 20<<20)
	r := rand.NewChaCha8([32]byte{7})
	_, _ = r.Read(data)
	g := newGuest(t, "cat")
	g.stdin = bytes.NewReader(data)
	g.boot()
	g.wantExit(0, "")
	if sha256.Sum256(g.stdout.Bytes()) != sha256.Sum256(data) {
		t.Errorf("%d bytes came back of %d, or other ones", g.stdout.Len(), len(data))
	}
}

// A command that ends while its standard input is open ends the guest.
func TestStdinStaysOpen(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	g := newGuest(t, "sh", "-c", "read line; echo got $line")
	g.stdin = r
	g.onStarted = func(*guest) { _, _ = io.WriteString(w, "this\n") }
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.boot()
	}()
	// The host's own reader of stdin ends only when there is more to read.
	for range 600 {
		g.mu.Lock()
		_, ended := g.times["end"]
		g.mu.Unlock()
		if ended {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.Close()
	<-done
	g.wantExit(0, "")
	g.wantOutput("got this\n")
}

func TestEndsOfCommands(t *testing.T) {
	for _, c := range []struct {
		script string
		code   int
		signal string
	}{
		{"exit 0", 0, ""},
		{"exit 255", 255, ""},
		{"kill -SEGV $$", 139, "SIGSEGV"},
		{"kill -KILL $$", 137, "SIGKILL"},
		{"kill -TERM $$", 143, "SIGTERM"},
		{"kill -35 $$", 163, "SIGRTMIN+1"},
		{"sleep 1000 & exit 4", 4, ""},
		{"kill -TERM 1; sleep 1000", 143, "SIGTERM"},
		{"kill -KILL 1; echo alive", 0, ""},
	} {
		t.Run(c.script, func(t *testing.T) {
			newGuest(t, "sh", "-c", c.script).boot().wantExit(c.code, c.signal)
		})
	}
}

func TestCommandsThatCannotRun(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		words []string
	}{
		{"not in PATH", []string{"nosuch"}, 127, []string{`"nosuch"`, "not found", "PATH"}},
		{"no file", []string{"/no/such"}, 127, []string{`"/no/such"`, "does not exist"}},
		{"not executable", []string{"/bin/notexec"}, 126, []string{`"/bin/notexec"`, "permission denied"}},
		{"not executable in PATH", []string{"notexec"}, 126, []string{`"notexec"`, "permission denied"}},
		{"directory", []string{"/etc"}, 126, []string{`"/etc"`, "directory"}},
		{"exec format", []string{"garbage"}, 126, []string{`"garbage"`, "exec format error"}},
		{"no interpreter", []string{"nointerp"}, 127, []string{`"nointerp"`, "interpreter"}},
		{"no command", nil, 127, []string{"empty"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			newGuest(t, c.args...).boot().wantFailed(c.code, c.words...)
		})
	}
}

func TestSignals(t *testing.T) {
	for _, name := range []string{"SIGTERM", "INT", "SIGKILL", "1", "SIGRTMIN+2"} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, "sleep", "1000")
			g.onStarted = func(g *guest) { g.signal(name) }
			g.boot()
			m := g.last()
			if m.Type != wire.GuestExit || m.Signal == "" || m.Code <= 128 || m.OutOfMemory {
				t.Errorf("the guest says %+v", m)
			}
		})
	}
}

func TestSignalIsHandled(t *testing.T) {
	g := newGuest(t, "sh", "-c", "trap 'echo usr; exit 9' USR1; echo ready; while :; do sleep 0.1; done")
	g.onOutput = func(g *guest, all string) {
		if all == "ready\n" {
			g.signal("SIGUSR1")
		}
	}
	g.boot()
	g.wantExit(9, "")
	g.wantOutput("ready\nusr\n")
}

// A signal that comes while the guest boots reaches the command.
func TestEarlySignal(t *testing.T) {
	g := newGuest(t, "sleep", "1000")
	g.manifest.Process.Env = []string{"A=b"}
	g.onHello = func(g *guest) { g.signal("SIGTERM") }
	g.boot()
	g.wantExit(143, "SIGTERM")
}

// A program that is made to be PID 1 is PID 1.
func TestInit(t *testing.T) {
	g := newGuest(t, "/bin/init")
	g.onOutput = func(g *guest, all string) {
		if strings.HasSuffix(all, "pid 1\n") {
			g.signal("SIGTERM")
		}
	}
	g.boot()
	g.wantExit(5, "")
	g.wantOutput("pid 1\ngot TERM\n")
}

func TestPowerOffInContainer(t *testing.T) {
	newGuest(t, "busybox", "poweroff", "-f").boot().wantExit(0, "")
}

// What the container sees is what it would see under Docker.
func TestContainer(t *testing.T) {
	devices := "fuse net/tun"
	if modules != "" {
		devices = "" // of other modules
	}
	g := newGuest(t, "sh", "-c", strings.Join([]string{
		"echo user $(id -u):$(id -g):$(id -G)",
		"echo home $HOME path $PATH hostname $HOSTNAME $(hostname) term $TERM",
		"echo pwd $(pwd)",
		"echo hosts $(grep -c localhost /etc/hosts) $(cat /etc/hostname) $(grep -v ^# /etc/resolv.conf)",
		"echo tmp $(cat /tmp/of-image) $(stat -c %a /tmp)",
		"echo umask $(umask) nofile $(ulimit -n)",
		"echo init $(cat /proc/1/comm) $(tr '\\0' ' ' </proc/1/cmdline)",
		"echo fds $(ls /proc/self/fd | wc -l)",
		"echo shm $(stat -c %a /dev/shm) mqueue $(stat -f -c %T /dev/mqueue)",
		"echo cgroup $(cat /proc/self/cgroup)",
		"echo lo $(ip addr show lo | grep -c -e 127.0.0.1/8 -e ::1/128)",
		"for n in null zero full random urandom tty ptmx " + devices + "; do test -e /dev/$n || echo no $n; done",
	}, "; "))
	g.manifest.Process.Env = []string{"FOO=bar"}
	g.manifest.Process.Cwd = "/made/for it"
	g.boot()
	g.wantExit(0, "")
	g.wantOutput(`user 0:0:0
home /root path /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin hostname bakery bakery term
pwd /made/for it
hosts 2 bakery options timeout:1 attempts:1
tmp kept 1777
umask 0022 nofile 65536
init bake-init bake-init
fds 4
shm 1777 mqueue UNKNOWN
cgroup 0::/
lo 2
`)
}

// Root in the container can do what root of a machine can.
func TestPrivileges(t *testing.T) {
	g := newGuest(t, "sh", "-c", strings.Join([]string{
		"set -e",
		"mknod /tmp/vda b $(cat /sys/class/block/vda/dev | tr : ' ')",
		"head -c 2048 /tmp/vda | tail -c 1024 | head -c 4 | od -An -tx1",
		"mkdir /tmp/m; mount -t tmpfs none /tmp/m; umount /tmp/m",
		"mkdir /sys/fs/cgroup/sub; echo $$ >/sys/fs/cgroup/sub/cgroup.procs; cat /proc/self/cgroup",
		"echo 1 >/proc/sys/net/ipv4/ip_forward",
		"unshare -m -u -i -n -p -f -U true",
		"mv /data/a /data/c; cat /data/c/b; chown -R 5:5 /data; stat -c %u /data/c/b",
		"rm -r /data; test ! -e /data",
		"echo fine",
	}, "\n")).boot()
	g.wantExit(0, "")
	g.wantOutput(" e2 e1 f5 e0\n0::/sub\ndeep\n5\nfine\n")
}

func TestUsers(t *testing.T) {
	five, seven := uint32(5), uint32(7)
	for _, c := range []struct {
		p    wire.Process
		want string
	}{
		{wire.Process{User: "baker"}, "1000:1001:1001 1002 1003 /home/baker"},
		{wire.Process{User: "baker:oven"}, "1000:1002:1002 /home/baker"},
		{wire.Process{User: "1000"}, "1000:1001:1001 1002 1003 /home/baker"},
		{wire.Process{User: "4242:77"}, "4242:77:77 /"},
		{wire.Process{User: "baker", UID: &five, GID: &seven}, "5:7:7 /"},
	} {
		t.Run(c.p.User, func(t *testing.T) {
			g := newGuest(t)
			g.manifest.Process = c.p
			// Those who are not root can open their own streams too.
			g.command("sh", "-c", "echo $(id -u):$(id -g):$(id -G) $HOME >/dev/stdout; cat </dev/stdin; echo >/dev/stderr").boot()
			g.wantExit(0, "")
			g.wantOutput(c.want + "\n")
		})
	}
	g := newGuest(t, "true")
	g.manifest.Process.User = "nobody"
	g.boot()
	g.wantFailed(125, `"nobody"`, "/etc/passwd")
}

func TestTerminal(t *testing.T) {
	g := newGuest(t, "sh", "-c", "tty; stty size; echo $TERM; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo terminal; trap 'stty size' WINCH; echo ready; while read x; do echo read $x; done; echo eof")
	g.manifest.Process.Terminal = true
	g.manifest.Process.Rows, g.manifest.Process.Cols = 40, 100
	// The trap runs after a read, and the size comes on another connection than
	// what is typed: so lines are typed until it was there.
	typed, ended := 0, false
	g.onOutput = func(g *guest, all string) {
		switch {
		case typed == 0 && strings.Contains(all, "ready\r\n"):
			g.send(wire.HostMessage{Type: wire.HostResize, Rows: 50, Cols: 120})
			typed++
			g.typeText("one\r")
		case ended || typed == 0 || strings.Count(all, "read one\r\n") < typed:
		case strings.Contains(all, "50 120\r\n"):
			ended = true
			g.typeText("\x04")
		default:
			typed++
			g.typeText("one\r")
		}
	}
	g.boot()
	g.wantExit(0, "")
	for _, want := range []string{"/dev/pts/0\r\n40 100\r\nxterm\r\nterminal\r\nready\r\n", "one\r\n", "50 120\r\n", "read one\r\n", "eof\r\n"} {
		if !strings.Contains(g.stdout.String(), want) {
			t.Errorf("the terminal shows %q, which lacks %q", g.stdout.String(), want)
		}
	}
}

func TestTerminalInterrupt(t *testing.T) {
	g := newGuest(t, "sh", "-c", "echo ready; exec sleep 1000")
	g.manifest.Process.Terminal = true
	g.manifest.Process.User = "baker"
	g.onOutput = func(g *guest, all string) {
		if strings.HasSuffix(all, "ready\r\n") {
			time.Sleep(300 * time.Millisecond) // for exec
			g.typeText("\x03")
		}
	}
	g.boot()
	g.wantExit(130, "SIGINT")
}

// All that a command wrote before its end arrives, also what its children
// hold the stream open for.
func TestBackgroundChildren(t *testing.T) {
	g := newGuest(t, "sh", "-c", "(trap '' TERM HUP; sleep 1000) & seq 1 50000; exit 6").boot()
	g.wantExit(6, "")
	if !strings.HasSuffix(g.stdout.String(), "\n49999\n50000\n") {
		t.Errorf("the end of the output is missing: %d bytes", g.stdout.Len())
	}
}

// A host that takes no more output breaks the pipe, as head(1) does.
func TestBrokenPipe(t *testing.T) {
	g := newGuest(t, "sh", "-c", "yes; echo yes ended with $? >&2")
	g.closeStdout = 1000
	g.boot()
	g.wantExit(0, "")
	if got := g.stderr.String(); got != "yes ended with 141\n" { // 128 + SIGPIPE
		t.Errorf("stderr is %q", got)
	}
}

func TestOutOfMemory(t *testing.T) {
	g := newGuest(t, "tail", "/dev/zero").boot()
	g.wantExit(137, "SIGKILL")
	if !g.last().OutOfMemory {
		t.Errorf("the guest says %+v", g.last())
	}
}

func TestOrphansAreCollected(t *testing.T) {
	g := newGuest(t, "sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.2 &) ; done; sleep 1; ps -o stat,comm | grep -c ^Z").boot()
	g.wantOutput("0\n")
}

// The image may begin in the middle of a disk.
func TestWindow(t *testing.T) {
	path, size := embed(t, image, 3*64<<10)
	g := newGuest(t, "cat", "/etc/hostname")
	g.image = path
	g.manifest.Rootfs.Offset, g.manifest.Rootfs.Size = 3*64<<10, size
	g.boot()
	g.wantExit(0, "")
	g.wantOutput("bakery\n")
}

func TestTmpfs(t *testing.T) {
	g := newGuest(t, "sh", "-c", "echo x >/x; mv /data/a /data/c; cat /x /data/c/b")
	g.manifest.Ephemeral = wire.Ephemeral{}
	g.boot()
	g.wantExit(0, "")
	g.wantOutput("x\ndeep\n")
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*guest)
		words  []string
	}{
		"no such disk":    {func(g *guest) { g.manifest.Rootfs.Device = "/dev/vdz" }, []string{"/dev/vdz", "did not appear"}},
		"not that type":   {func(g *guest) { g.manifest.Rootfs.Type = "squashfs" }, []string{"squashfs", "/dev/vda"}},
		"unknown type":    {func(g *guest) { g.manifest.Rootfs.Type = "ntfs" }, []string{"ntfs"}},
		"beyond the end":  {func(g *guest) { g.manifest.Rootfs.Size = 1 << 40 }, []string{"truncated"}},
		"ephemeral":       {func(g *guest) { g.manifest.Ephemeral.Device = "/dev/vda" }, []string{"ephemeral", "/dev/vda"}},
		"host name":       {func(g *guest) { g.manifest.Hostname = "a b" }, []string{"host name"}},
		"environment":     {func(g *guest) { g.manifest.Process.Env = []string{"novalue"} }, []string{"novalue"}},
		"version":         {func(g *guest) { g.manifest.Version = 99 }, []string{"version 99"}},
		"broken manifest": {func(g *guest) { g.rawFrame = []byte("{") }, []string{"boot manifest"}},
		"cwd is a file":   {func(g *guest) { g.manifest.Process.Cwd = "/etc/passwd" }, []string{"/etc/passwd"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, "true")
			c.change(g)
			g.boot()
			g.wantFailed(125, c.words...)
		})
	}
}

// A host that never answers does not keep the guest.
func TestHostDoesNotAnswer(t *testing.T) {
	g := newGuest(t, "true")
	g.noDone = true
	g.boot()
	g.wantExit(0, "")
}

// A host that is gone takes the guest with it.
func TestHostIsGone(t *testing.T) {
	g := newGuest(t, "sleep", "1000")
	g.onStarted = func(g *guest) { g.control.Close() }
	g.boot()
	if m := g.last(); m.Type != wire.GuestStarted {
		t.Errorf("the guest says %+v", m)
	}
}

func TestNoReboot(t *testing.T) {
	g := newGuest(t, "true")
	g.manifest.NoReboot = true
	stayed := false
	g.onExit = func(g *guest) {
		go func() {
			time.Sleep(2 * time.Second)
			g.mu.Lock()
			_, ended := g.times["end"]
			stayed = !ended
			g.mu.Unlock()
			g.control.Close()
		}()
	}
	g.boot()
	g.wantExit(0, "")
	if !stayed || !strings.Contains(g.console.String(), "stays up") {
		t.Errorf("the guest did not stay; its console is %s", g.console.String())
	}
}

// Without any console the agent has no streams of its own.
func TestNoConsole(t *testing.T) {
	if !microvm() {
		t.Skip("only microvm can do without a serial port")
	}
	g := newGuest(t, "echo", "hi")
	g.noSerial = true
	g.append = "quiet 8250.nr_uarts=0"
	g.boot()
	g.wantExit(0, "")
	g.wantOutput("hi\n")
}

// The host reaches servers of the guest, and learns that there is none.
func TestPorts(t *testing.T) {
	g := newGuest(t, "sh", "-c", "nc -l -p 8080 -e cat & echo ready; wait")
	g.onOutput = func(g *guest, all string) {
		if all != "ready\n" {
			return
		}
		var errs []string
		for range 50 {
			got, err := g.throughPort(8080, "ping")
			if err == nil && got == "ping" {
				break
			}
			errs = append(errs, fmt.Sprint(err))
			time.Sleep(100 * time.Millisecond)
		}
		if _, err := g.throughPort(9999, ""); err == nil || !strings.Contains(err.Error(), "reply 5") {
			t.Errorf("a port that nobody listens on is %v", err)
		}
		if len(errs) >= 50 {
			t.Errorf("port 8080: %v", errs)
		}
		g.signal("SIGTERM")
	}
	g.boot()
}

// An image of one file.
func TestScratch(t *testing.T) {
	root := t.TempDir()
	if out, err := exec.Command("cp", busybox, filepath.Join(root, "busybox")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	image := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("mkfs.erofs", image, root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	g := newGuest(t, "/busybox", "sh", "-c", "/busybox id -u; /busybox cat /etc/hostname; echo $HOME; /busybox ls /")
	g.manifest.Process.User = "65532:65532"
	g.image = image
	g.boot()
	g.wantExit(0, "")
	g.wantOutput("65532\nbakery\n/\nbusybox\ndev\netc\nproc\nsys\n")
}

func TestLongArguments(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	args := []string{"sh", "-c", "echo $# ${#1} ${#LONG}", "sh"}
	for range 10 {
		args = append(args, long)
	}
	g := newGuest(t, args...)
	g.manifest.Process.Env = []string{"LONG=" + long}
	g.boot()
	g.wantExit(0, "")
	g.wantOutput("10 102400 102400\n")

	g = newGuest(t, "echo", strings.Repeat("x", 200<<10)).boot()
	g.wantFailed(126, `"echo"`, "longer than the kernel allows")
}

// A guest that cannot reach its host goes away and says so on the console.
func TestNoHost(t *testing.T) {
	g := newGuest(t, "true")
	g.noVsock = true
	g.boot()
	if len(g.messages) != 0 || !strings.Contains(g.console.String(), "bake: reach the host's vsock port 15") {
		t.Errorf("the console shows %s", g.console.String())
	}
}

// SIGKILL after the command's end gives up the output that nobody takes.
func TestKillOfTheOutput(t *testing.T) {
	g := newGuest(t, "sh", "-c", "head -c 2000000 /dev/zero & sleep 1; exit 3")
	g.stuckStdout = true
	g.onStarted = func(g *guest) {
		go func() {
			// Some of these come before the end and are not for the output.
			for range 50 {
				time.Sleep(200 * time.Millisecond)
				g.mu.Lock()
				_, ended := g.times["exit"]
				g.mu.Unlock()
				if ended {
					return
				}
				if g.killed.Load() {
					g.signal("SIGKILL")
				}
			}
		}()
		time.Sleep(3 * time.Second)
		g.killed.Store(true)
	}
	g.boot()
	g.wantExit(3, "")
}

func TestClock(t *testing.T) {
	g := newGuest(t, "date", "-u", "+%Y-%m-%d")
	g.clock = time.Date(2001, 9, 9, 1, 46, 40, 0, time.UTC).UnixNano()
	g.boot()
	g.wantOutput("2001-09-09\n")
}
