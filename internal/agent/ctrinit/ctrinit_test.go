//go:build linux

package ctrinit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test's executable is the init, as the agent's is.
func TestMain(m *testing.M) {
	if os.Args[0] == Executable {
		os.Exit(Main(role))
	}
	os.Exit(m.Run())
}

// A container is an init in a PID namespace of its own.
type container struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket *os.File
	stdin  io.WriteCloser
	stdout io.ReadCloser
}

func start(t *testing.T, s Start) *container {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making a PID namespace takes root")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "init")
	defer theirs.Close()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	c := &container{t: t, socket: os.NewFile(uintptr(pair[0]), "agent")}
	c.cmd = &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{Executable}, Env: []string{},
		ExtraFiles:  []*os.File{theirs, self},
		Stderr:      os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS},
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.socket.Close()
	})
	if err := WriteRequest(c.socket, Request{Start: &s}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *container) report() Report {
	c.t.Helper()
	r, err := ReadReport(c.socket)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *container) signal(n unix.Signal) {
	c.t.Helper()
	if err := WriteRequest(c.socket, Request{Signal: int(n)}); err != nil {
		c.t.Fatal(err)
	}
}

// output reads n bytes.
func (c *container) output(n int) string {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.stdout, b); err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

func (c *container) wantStarted() {
	c.t.Helper()
	if r := c.report(); r.Type != Started {
		c.t.Fatalf("the init reports %+v", r)
	}
}

func (c *container) wantExited(status unix.WaitStatus) {
	c.t.Helper()
	if r := c.report(); r.Type != Exited || unix.WaitStatus(r.Status) != status {
		c.t.Errorf("the init reports %+v, want the status %#x", r, status)
	}
}

// ownProc makes /proc that of the namespace, before what a script does.
const ownProc = "mount --make-rprivate / && mount -t proc proc /proc\n"

var path = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}

func sh(script string) Start { return Start{Args: []string{"sh", "-c", script}, Env: path} }

func TestStatus(t *testing.T) {
	for script, want := range map[string]unix.WaitStatus{
		"exit 0":          0,
		"exit 3":          3 << 8,
		"exit 137":        137 << 8,
		"kill -SEGV $$":   unix.WaitStatus(unix.SIGSEGV),
		"kill -TERM $$":   unix.WaitStatus(unix.SIGTERM),
		"kill -KILL $$":   unix.WaitStatus(unix.SIGKILL),
		"sleep 1000 &":    0,
		"exec kill -9 $$": unix.WaitStatus(unix.SIGKILL),
	} {
		c := start(t, sh("ulimit -c 0; "+script))
		c.wantStarted()
		c.wantExited(want)
		if _, err := ReadReport(c.socket); !errors.Is(err, io.EOF) {
			t.Errorf("%s: after the end comes %v", script, err)
		}
	}
}

// A command has the signals of a process that is not PID 1.
func TestSignalsOfTheAgent(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGKILL, unix.SIGUSR1, 36, 64} {
		c := start(t, Start{Args: []string{"sleep", "1000"}, Env: path})
		c.wantStarted()
		c.signal(sig)
		c.wantExited(unix.WaitStatus(sig))
	}
}

func TestSignalIsHandled(t *testing.T) {
	c := start(t, sh("trap 'echo usr; exit 9' USR1; echo ready; while :; do sleep 0.05; done"))
	c.wantStarted()
	c.output(len("ready\n"))
	c.signal(unix.SIGUSR1)
	c.wantExited(9 << 8)
}

func TestStopAndContinue(t *testing.T) {
	c := start(t, sh("echo $$; while read x; do echo $x; done; exit 4"))
	c.wantStarted()
	c.output(1)
	c.signal(unix.SIGSTOP)
	c.signal(unix.SIGCONT)
	fmt.Fprintln(c.stdin, "on")
	c.stdin.Close()
	c.wantExited(4 << 8)
}

// Inside, PID 1 stands for the command, and cannot be killed.
func TestSignalsFromInside(t *testing.T) {
	c := start(t, sh("kill -KILL 1; kill -SEGV 1; sleep 1000"))
	c.wantStarted()
	c.wantExited(unix.WaitStatus(unix.SIGSEGV))

	c = start(t, sh("trap 'exit 5' TERM; kill -TERM 1; while :; do sleep 0.05; done"))
	c.wantStarted()
	c.wantExited(5 << 8)
}

// The command starts with what a process has that nobody meddled with.
func TestCommandIsClean(t *testing.T) {
	c := start(t, Start{Args: []string{"sh", "-c", ownProc + `
		grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status | tr -d '\n\t'; echo
		ls -l /proc/self/fd | grep -c socket:
		env | grep -v -e ^PWD -e ^OLDPWD -e ^_ -e ^SHLVL | sort | tr '\n' ' '; echo
		test $(ps -o sid= -p $$) = $(ps -o pid= -p $$) && echo leader`}, Env: append(path, "A=b")})
	c.wantStarted()
	b, err := io.ReadAll(c.stdout)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	// The Go runtime leaves the two signals alone that C libraries use for
	// threads; whoever runs the tests may ignore them.
	if want := "SigBlk:0000000000000000SigIgn:" + threadSignalsIgnored(t) + "SigCgt:0"; !strings.HasPrefix(lines[0], want) {
		t.Errorf("the command's signals are %s, want %s", lines[0], want)
	}
	if lines[1] != "0" {
		t.Errorf("the command has %s of the init's sockets", lines[1])
	}
	if lines[2] != "A=b "+path[0]+" " {
		t.Errorf("the command's environment is %s", lines[2])
	}
	c.wantExited(0)
}

// threadSignalsIgnored is the mask of ignored signals, as in proc_pid_status(5),
// that the test itself started with.
func threadSignalsIgnored(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if mask, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%016x", n&(1<<31|1<<32)) // signals 32 and 33
		}
	}
	t.Fatal("there is no SigIgn in /proc/self/status")
	return ""
}

// When the command closes its output, it has an end, although PID 1 lives.
func TestStreamsAreLetGo(t *testing.T) {
	c := start(t, sh("echo out; exec >&- 2>&-; read x; exit 7"))
	c.wantStarted()
	b, err := io.ReadAll(c.stdout)
	if err != nil || string(b) != "out\n" {
		t.Errorf("read %q, %v", b, err)
	}
	c.stdin.Close()
	if r := c.report(); r.Type != Exited || r.Status == 0 {
		t.Errorf("the init reports %+v", r)
	}
}

func TestOrphansAreCollected(t *testing.T) {
	c := start(t, sh(ownProc+`
		for i in 1 2 3; do (sleep 0.05 &); done
		sleep 0.5
		ps -o stat= --ppid $(ps -o ppid= -p $$) | grep -c Z`))
	c.wantStarted()
	if got := c.output(2); got != "0\n" {
		t.Errorf("%s zombies", got)
	}
}

func TestName(t *testing.T) {
	c := start(t, sh("echo on; sleep 1000"))
	c.wantStarted()
	c.output(1)
	dir := fmt.Sprintf("/proc/%d/", c.cmd.Process.Pid)
	comm, err := os.ReadFile(dir + "comm")
	if err != nil || string(comm) != "bake-init\n" {
		t.Errorf("comm is %q, %v", comm, err)
	}
	cmdline, err := os.ReadFile(dir + "cmdline")
	if err != nil || strings.Trim(string(cmdline), "\x00") != "bake-init" {
		t.Errorf("cmdline is %q, %v", cmdline, err)
	}
}

func TestExec(t *testing.T) {
	s := sh("echo $$; exit 3")
	s.Exec = true
	c := start(t, s)
	if got := c.output(2); got != "1\n" {
		t.Errorf("the command is process %s", got)
	}
	if r, err := ReadReport(c.socket); !errors.Is(err, io.EOF) {
		t.Errorf("the init reports %+v, %v", r, err)
	}
	var exit *exec.ExitError
	if err := c.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("PID 1 ended with %v", err)
	}

	c = start(t, Start{Args: []string{"/no/such"}, Exec: true})
	if r := c.report(); r.Type != Failed || r.Code != 127 {
		t.Errorf("the init reports %+v", r)
	}
}

func TestCannotRun(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "garbage": 0o755, "nointerp": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(map[string]string{"nointerp": "#!/no/such\n"}[name]+"\x7f?"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command string
		code    int
		words   string
	}{
		{"", 127, "empty"},
		{"nosuch", 127, "not found in the container's PATH (" + dir + ")"},
		{dir + "/nosuch", 127, "does not exist"},
		{dir + "/plain/nosuch", 127, "does not exist"},
		{"plain", 126, "permission denied"},
		{dir + "/plain", 126, "permission denied"},
		{"garbage", 126, "exec format error"},
		{"nointerp", 127, "interpreter"},
		{"sub", 126, "directory"},
		{dir, 126, "directory"},
		{strings.Repeat("x", 300), 127, "not found"},
		{"/" + strings.Repeat("x", 300), 126, "file name too long"},
	} {
		r := start(t, Start{Args: []string{c.command}, Env: []string{"PATH=" + dir}}).report()
		if r.Type != Failed || r.Code != c.code || !strings.Contains(r.Message, c.words) {
			t.Errorf("%.50q: the init reports %+v; want code %d and %q", c.command, r, c.code, c.words)
		}
	}
	// A later directory of PATH can have it.
	c := start(t, Start{Args: []string{"plain"}, Env: []string{"PATH=" + dir + ":/no/such::"}})
	if r := c.report(); r.Code != 126 {
		t.Errorf("the init reports %+v", r)
	}
}

func TestNoStart(t *testing.T) {
	c := start(t, Start{})
	if r := c.report(); r.Type != Failed || r.Code != 127 {
		t.Errorf("the init reports %+v", r)
	}
}

// role tells what it was given.
func role(name string, args []string) int {
	dir, _ := os.Getwd()
	fmt.Printf("%s %q %q %s\n", name, args, os.Environ(), dir)
	return 6
}

func TestRole(t *testing.T) {
	c := start(t, Start{Role: "tell", Args: []string{"x", "y z"}, Env: []string{"A=b"}, Dir: "/usr", Exec: true})
	if r, err := ReadReport(c.socket); !errors.Is(err, io.EOF) {
		t.Errorf("the init reports %+v, %v", r, err)
	}
	b, err := io.ReadAll(c.stdout)
	if want := "tell [\"x\" \"y z\"] [\"A=b\"] /usr\n"; err != nil || string(b) != want {
		t.Errorf("the role says %q, %v; want %q", b, err, want)
	}
	var exit *exec.ExitError
	if err := c.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 6 {
		t.Errorf("the role ended with %v", err)
	}
}

func TestPathAndDir(t *testing.T) {
	c := start(t, Start{Args: []string{"-sh", "-c", "echo $0; pwd"}, Path: "/bin/sh", Env: path, Dir: "/no/such", AnyDir: true, Exec: true})
	if b, err := io.ReadAll(c.stdout); err != nil || string(b) != "-sh\n/\n" {
		t.Errorf("the shell says %q, %v", b, err)
	}
	c = start(t, Start{Args: []string{"sh"}, Env: path, Dir: "/no/such", Exec: true})
	if r := c.report(); r.Type != Failed || r.Code != 126 || !strings.Contains(r.Message, "/no/such") {
		t.Errorf("the init reports %+v", r)
	}
	c = start(t, Start{Args: []string{"-sh"}, Path: "/no/such", Env: path, Exec: true})
	if r := c.report(); r.Type != Failed || r.Code != 127 || !strings.Contains(r.Message, "/no/such") {
		t.Errorf("the init reports %+v", r)
	}
}
