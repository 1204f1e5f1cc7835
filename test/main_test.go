//go:build linux

// Package test runs bake end to end: scripts/*.txtar are testscript scripts
// that read as documentation, and everything in them is real. They run the
// real bake, boot real VMs, and take images from a registry in this process.
//
// The programs under test are taken from $BAKE_TEST_BIN, or from ../bin, where
// make puts them. $BAKE_TEST_KERNEL names the kernel that apps get; without it
// they get the one that bake chooses by itself. VMs run by emulation (TCG)
// unless $BAKE_QEMU_ACCEL says otherwise, so that the suite tests the same on
// every machine.
//
// What scripts have beside testscript's own commands:
//
//	run [-user] PROG...          must end with exit code 0
//	exits CODE [-user] PROG...   must end with that exit code, or by that signal
//	fails [-user] PROG...        must end as the failures of bake do: exit code
//	                             125 and one sentence on stderr
//	start NAME [-user] PROG...   runs in the background; its stdin stays open
//	tty NAME [-size=RxC] PROG... the same on a terminal of its own
//	expect NAME [out|err] REGEXP waits for output after what was expected before
//	send NAME TEXT, eof NAME     type TEXT (a Go string); end stdin
//	resize NAME ROWS COLS        changes the terminal's size
//	signal NAME SIGNAL           sends a signal to the program itself
//	killvmm NAME [SIGNAL]        sends a signal to the hypervisor below it,
//	                             SIGKILL if none is named
//	finish NAME CODE             waits for the end, which must be as said, for a
//	                             signal by its name or as a shell does; on a
//	                             terminal, its mode must be what it was before
//	clean [processes]            nothing of this script is left: no process and,
//	                             without the argument, no file of bake's either
//	save IMAGE FORMAT PATH       writes an image of the registry to a file
//	flip FILE PART               inverts a byte in the middle of a part of an app
//	mutate APP N                 runs N damaged copies of an app
//	in NAME [CODE] LINE          has the shell that is started as NAME run a
//	                             command line, which must end with CODE or 0
//	give NAME FILE PATH          writes a file through that shell
//	pid NAME VAR                 sets VAR to the process ID
//	programs APP [net|volumes|copy]  makes an app of a Debian with what users of the
//	                             network have (curl, dig, nginx, python3, ...)
//	                             or of volumes (git, npm, PostgreSQL, ...)
//	compile FILE PACKAGE TAGS    makes a program of the package's tests
//	network                      puts all programs that are started from then on
//	                             into a network namespace, see network_test.go
//
// With -user the program runs as a user who is not root. After run, exits,
// fails, finish and in, stdout and stderr are what the program wrote; the one line
// that says that VMs are emulated here is left out of stderr.
package test

import (
	"cmp"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// goOn shows all failures of a script at once, for who writes one.
var goOn = flag.Bool("go-on", false, "go on after the first failure of a script")

func TestScripts(t *testing.T) {
	l, err := newLab(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	testscript.Run(t, testscript.Params{
		Dir:                "scripts",
		Setup:              l.setup,
		Cmds:               commands(),
		RequireUniqueNames: true,
		ContinueOnError:    *goOn,
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("there is no condition %q", cond)
		},
	})
}

// A lab is what all scripts share.
type lab struct {
	dir      string // for everything below
	run      string // for runtime directories; a short path
	bin      string // the programs under test, and those of the tests
	kernels  string // a copy of the machine's kernel store
	kernel   string // the kernel bundle that apps get, or empty
	registry *registry

	programs map[string]*programs // by what scripts/rootfs.sh calls them
}

// binaries are what the tests need of make.
func binaries() []string {
	return []string{"bake", "bake-app-linux-" + runtime.GOARCH, "initrd-" + runtime.GOARCH + ".cpio"}
}

func newLab(dir string) (*lab, error) {
	l := &lab{dir: dir, bin: filepath.Join(dir, "bin"), programs: map[string]*programs{"net": {}, "volumes": {}, "copy": {}}}
	// Users other than the one who runs the tests run what is in here.
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			return nil, err
		}
	}
	if err := l.collect(); err != nil {
		return nil, err
	}
	var err error
	if l.run, err = os.MkdirTemp("/tmp", "bt"); err != nil {
		return nil, err
	}
	if err := os.Chmod(l.run, 0o711); err != nil {
		return nil, err
	}
	l.registry, err = newRegistry(filepath.Join(l.bin, "probe"))
	return l, err
}

// collect copies the programs and the kernel to where every user can read them.
func (l *lab) collect() error {
	from := os.Getenv("BAKE_TEST_BIN")
	if from == "" {
		from = filepath.Join("..", "bin")
	}
	if err := os.Mkdir(l.bin, 0o755); err != nil {
		return err
	}
	for _, name := range binaries() {
		if err := copyFile(filepath.Join(from, name), filepath.Join(l.bin, name)); err != nil {
			return fmt.Errorf("the tests need %s in %s: run `make build initrd` first, or say in BAKE_TEST_BIN where it is (%w)", name, from, err)
		}
	}
	for _, name := range []string{"probe", "world", "posix", "attack", "storm", "manager"} {
		if err := buildProgram(name, filepath.Join(l.bin, name)); err != nil {
			return err
		}
	}
	machine, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	l.kernels = filepath.Join(l.dir, "kernels")
	if err := copyKernels(filepath.Join(machine, "bake", "kernel"), l.kernels); err != nil {
		return fmt.Errorf("the tests need a kernel in bake's cache: run `make kernel kernel-debian` first (%w)", err)
	}
	kernel := os.Getenv("BAKE_TEST_KERNEL")
	if kernel == "" {
		return nil
	}
	if info, err := os.Stat(kernel); err == nil && !info.IsDir() {
		kernel = filepath.Dir(kernel)
	}
	l.kernel = filepath.Join(l.kernels, filepath.Base(kernel))
	if _, err := os.Stat(l.kernel); err != nil {
		return fmt.Errorf("BAKE_TEST_KERNEL names %s, which is no kernel in bake's cache (%w)", kernel, err)
	}
	return nil
}

// copyKernels copies the bundles of a store, and not what is being compiled there.
func copyKernels(from, to string) error {
	bundles, err := filepath.Glob(filepath.Join(from, "[^.]*", "bundle.json"))
	if err != nil {
		return err
	}
	if len(bundles) == 0 {
		return fmt.Errorf("there is none in %s", from)
	}
	for _, bundle := range bundles {
		dir := filepath.Dir(bundle)
		if err := os.CopyFS(filepath.Join(to, filepath.Base(dir)), os.DirFS(dir)); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) close() {
	if l.registry != nil {
		l.registry.close()
	}
	os.RemoveAll(l.run)
}

// setup gives each script a home, a cache and a runtime directory of its own. In
// the cache are the kernels of the machine.
func (l *lab) setup(env *testscript.Env) error {
	for d := env.WorkDir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			return err
		}
	}
	s, err := newScript(l, env)
	if err != nil {
		return err
	}
	env.Values[scriptKey{}] = s
	env.Defer(s.close)
	home := filepath.Join(env.WorkDir, ".home")
	cache := filepath.Join(env.WorkDir, ".cache")
	for _, dir := range []string{home, filepath.Join(cache, "bake")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	machine, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	if err := os.Symlink(l.kernels, filepath.Join(cache, "bake", "kernel")); err != nil {
		return err
	}
	env.Setenv("PATH", l.bin+":"+os.Getenv("PATH"))
	env.Setenv("HOME", home)
	env.Setenv("XDG_CACHE_HOME", cache)
	env.Setenv("XDG_RUNTIME_DIR", s.runtime)
	env.Setenv("BAKE_BUILD_KERNEL", l.kernel)
	env.Setenv("BAKE_QEMU_ACCEL", accel())
	env.Setenv("TERM", "xterm-256color")
	env.Setenv("STORM_KILLS", cmp.Or(os.Getenv("BAKE_TEST_STORM_KILLS"), "21"))
	env.Setenv("STORM_INSTANCES", cmp.Or(os.Getenv("BAKE_TEST_STORM_INSTANCES"), "8"))
	// What scripts name.
	env.Setenv("REGISTRY", l.registry.addr)
	env.Setenv("BIN", l.bin)
	env.Setenv("SOURCE", sourceDir())
	env.Setenv("MACHINE_CACHE", filepath.Join(machine, "bake"))
	for _, key := range []string{"PORT1", "PORT2"} {
		port, err := freePort()
		if err != nil {
			return err
		}
		env.Setenv(key, port)
	}
	// An address of the loopback on which nobody else has ports.
	port, err := strconv.Atoi(env.Getenv("PORT1"))
	if err != nil {
		return err
	}
	env.Setenv("LOOPBACK", fmt.Sprintf("127.44.%d.%d", port>>8, port&0xff))
	return nil
}

func accel() string {
	if a := os.Getenv("BAKE_QEMU_ACCEL"); a != "" {
		return a
	}
	return "tcg"
}

// freePort is a port of the loopback that nothing listens on now.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

// sourceDir is the repository.
func sourceDir() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		return ".."
	}
	return dir
}

// lines are the lines of s.
func lines(s string) []string {
	s = strings.TrimSuffix(s, "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
