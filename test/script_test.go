//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// nobody is the user who is not root.
const nobody = 65534

// A script is what one running script has.
type script struct {
	lab      *lab
	work     string
	runtime  string // XDG_RUNTIME_DIR
	user     string // home of -user
	vars     []string
	sessions map[string]*session
	order    []string
	network  *session // what keeps the script's network namespace, if it has one
}

type scriptKey struct{}

func scriptOf(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func newScript(l *lab, env *testscript.Env) (*script, error) {
	s := &script{lab: l, work: env.WorkDir, user: filepath.Join(env.WorkDir, "user"), sessions: map[string]*session{}}
	var err error
	if s.runtime, err = os.MkdirTemp(l.run, ""); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.user, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.userRuntime(), 0o700); err != nil {
		return nil, err
	}
	cache := filepath.Join(s.user, ".cache", "bake")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	if err := os.Symlink(l.kernels, filepath.Join(cache, "kernel")); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		for _, dir := range []string{s.user, filepath.Dir(cache), cache, s.userRuntime()} {
			if err := os.Chown(dir, nobody, nobody); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// userRuntime is the XDG_RUNTIME_DIR of -user.
func (s *script) userRuntime() string { return s.runtime + "u" }

// close ends what a failed script left running.
func (s *script) close() {
	for _, name := range s.order {
		if session := s.sessions[name]; session != nil {
			session.kill()
			session.closeTerminal()
		}
	}
	for _, p := range s.processes() {
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
	if s.network != nil {
		s.network.kill()
	}
}

// inherited are the variables that programs get of the script's environment.
var inherited = []string{
	"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "TERM",
	"BAKE_BUILD_KERNEL", "BAKE_QEMU_ACCEL", "DOCKER_CONFIG",
}

// command prepares a program of the script. args may begin with -user.
func (s *script) command(ts *testscript.TestScript, args []string) *exec.Cmd {
	user := len(args) > 0 && args[0] == "-user"
	if user {
		args = args[1:]
	}
	if len(args) == 0 {
		ts.Fatalf("there is no program to run")
	}
	env := map[string]string{}
	for _, key := range inherited {
		if v := ts.Getenv(key); v != "" {
			env[key] = v
		}
	}
	env["GOTRACEBACK"] = "all" // for session.abort
	cmd := exec.Command(args[0])
	cmd.Path, cmd.Err = lookPath(args[0], env["PATH"])
	cmd.Args = args
	cmd.Dir = ts.MkAbs(".")
	if user {
		s.becomeUser(cmd, env)
	}
	for key, v := range env {
		cmd.Env = append(cmd.Env, key+"="+v)
	}
	if s.network != nil {
		s.enterNetwork(cmd)
	}
	return cmd
}

// becomeUser makes cmd a program of a user without any rights, who has a home.
// Who runs the tests without being root is one.
func (s *script) becomeUser(cmd *exec.Cmd, env map[string]string) {
	env["HOME"] = s.user
	env["TMPDIR"] = s.user
	env["XDG_CACHE_HOME"] = filepath.Join(s.user, ".cache")
	env["XDG_RUNTIME_DIR"] = s.userRuntime()
	if os.Getuid() != 0 {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{}}}
}

// lookPath finds a program in the script's PATH, not in the test's.
func lookPath(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not in the script's PATH", name)
}

// emulated is the line that says that there is no KVM.
var emulated = regexp.MustCompile(`(?m)^bake: .*\b(emulat\w+|TCG)\b.*\n`)

// crashed is what no user may ever see.
var crashed = regexp.MustCompile(`(?m)^panic: |^fatal error: |^goroutine \d+ \[|^runtime: |WARNING: DATA RACE`)

// shellCode is what a shell would show: 128 and the number of the signal that
// ended the program.
func shellCode(s *session) string {
	if status := s.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return fmt.Sprint(128 + int(status.Signal()))
	}
	return ""
}

// done is the end of a program: it checks what is true of every end, and makes
// the output what the script looks at.
func done(ts *testscript.TestScript, what string, s *session, want string) {
	got, err := s.finish()
	var restored error
	if s.master != nil {
		restored = s.restored()
		s.closeTerminal()
	}
	stdout, stderr := s.out.String(), s.err.String()
	fmt.Fprint(ts.Stdout(), stdout)
	fmt.Fprint(ts.Stderr(), emulated.ReplaceAllString(stderr, ""))
	switch {
	case err != nil:
		ts.Fatalf("%s: %v", what, err)
	case got != want && shellCode(s) != want:
		ts.Fatalf("%s ended with %s, want %s", what, got, want)
	case crashed.MatchString(stderr), crashed.MatchString(stdout):
		ts.Fatalf("%s: a program crashed", what)
	case restored != nil:
		ts.Fatalf("%s: %v", what, restored)
	}
}
