//go:build linux

package test

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func commands() map[string]func(*testscript.TestScript, bool, []string) {
	commands := map[string]func(*testscript.TestScript, []string){
		"run":      cmdRun,
		"exits":    cmdExits,
		"fails":    cmdFails,
		"start":    cmdStart,
		"tty":      cmdTTY,
		"expect":   cmdExpect,
		"send":     cmdSend,
		"eof":      cmdEOF,
		"resize":   cmdResize,
		"signal":   cmdSignal,
		"killvmm":  cmdKillVMM,
		"finish":   cmdFinish,
		"clean":    cmdClean,
		"save":     cmdSave,
		"flip":     cmdFlip,
		"mutate":   cmdMutate,
		"in":       cmdIn,
		"give":     cmdGive,
		"pid":      cmdPID,
		"programs": cmdPrograms,
		"network":  cmdNetwork,
		"compile":  cmdCompile,
	}
	out := map[string]func(*testscript.TestScript, bool, []string){}
	for name, f := range commands {
		out[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("%s has no negation: exits says with which code", name)
			}
			f(ts, args)
		}
	}
	return out
}

func need(ts *testscript.TestScript, args []string, n int, usage string) {
	if len(args) < n {
		ts.Fatalf("usage: %s", usage)
	}
}

// foreground runs a program to its end with an empty stdin.
func foreground(ts *testscript.TestScript, args []string, want string) {
	s := newSession(scriptOf(ts).command(ts, args))
	if err := s.start(false); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	done(ts, strings.Join(args, " "), s, want)
}

func cmdRun(ts *testscript.TestScript, args []string) {
	need(ts, args, 1, "run [-user] PROG...")
	foreground(ts, args, "0")
}

func cmdExits(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "exits CODE [-user] PROG...")
	foreground(ts, args[1:], args[0])
}

// longest is how long a sentence may be, in bytes.
const longest = 700

func cmdFails(ts *testscript.TestScript, args []string) {
	need(ts, args, 1, "fails [-user] PROG...")
	s := newSession(scriptOf(ts).command(ts, args))
	if err := s.start(false); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	done(ts, strings.Join(args, " "), s, "125")
	said := lines(emulated.ReplaceAllString(s.err.String(), ""))
	if building(args) {
		// What it was doing before is said line by line.
		said = said[max(0, len(said)-1):]
	}
	switch {
	case len(said) != 1:
		ts.Fatalf("an error is one line, these are %d", len(said))
	case !strings.HasPrefix(said[0], "bake: "):
		ts.Fatalf("the error does not say who speaks: it must begin with bake:")
	case len(said[0]) > longest:
		ts.Fatalf("the error has %d bytes: nobody reads that", len(said[0]))
	}
	if out := s.out.String(); out != "" {
		ts.Fatalf("an error belongs on stderr alone")
	}
}

func building(args []string) bool {
	i := slices.Index(args, "bake")
	return i >= 0 && i+1 < len(args) && args[i+1] == "build"
}

// background registers a session that was started.
func background(ts *testscript.TestScript, name string, s *session, err error) {
	script := scriptOf(ts)
	if err != nil {
		ts.Fatalf("start %s: %v", name, err)
	}
	if script.sessions[name] != nil {
		ts.Fatalf("%s runs already", name)
	}
	script.sessions[name] = s
	script.order = append(script.order, name)
}

func cmdStart(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "start NAME [-user] PROG...")
	s := newSession(scriptOf(ts).command(ts, args[1:]))
	background(ts, args[0], s, s.start(true))
}

func cmdTTY(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "tty NAME [-size=RxC] PROG...")
	name, args := args[0], args[1:]
	var rows, cols uint16 = 24, 80
	if size, ok := strings.CutPrefix(args[0], "-size="); ok {
		if _, err := fmt.Sscanf(size, "%dx%d", &rows, &cols); err != nil {
			ts.Fatalf("-size: %v", err)
		}
		args = args[1:]
	}
	s := newSession(scriptOf(ts).command(ts, args))
	background(ts, name, s, s.startTerminal(rows, cols))
}

// running is the session called name.
func running(ts *testscript.TestScript, name string) *session {
	s := scriptOf(ts).sessions[name]
	if s == nil {
		ts.Fatalf("nothing called %s runs", name)
	}
	return s
}

func cmdExpect(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "expect NAME [out|err] REGEXP")
	s := running(ts, args[0])
	from := s.out
	if len(args) == 3 {
		if args[1] == "err" {
			from = s.err
		}
		args = args[1:]
	}
	re, err := regexp.Compile("(?m)" + args[1])
	if err != nil {
		ts.Fatalf("%v", err)
	}
	if err := from.expect(re); err != nil {
		ts.Fatalf("%v\nstderr:\n%s", err, s.err)
	}
}

func cmdSend(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "send NAME TEXT")
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	if err != nil {
		ts.Fatalf("%s is no Go string: %v", args[1], err)
	}
	if _, err := running(ts, args[0]).stdin.Write([]byte(text)); err != nil {
		ts.Fatalf("%v", err)
	}
}

// cmdGive types the file, in a form that any shell takes.
func cmdGive(ts *testscript.TestScript, args []string) {
	need(ts, args, 3, "give NAME FILE PATH")
	data := []byte(ts.ReadFile(args[1]))
	file := shellIn(ts, args[0], fmt.Sprintf("base64 -d >'%[1]s' <<END && chmod 755 '%[1]s'\n%s\nEND", args[2], base64.StdEncoding.EncodeToString(data)))
	if code := file.code; code != "0" {
		ts.Fatalf("give %s %s: the shell says %s: %s", args[0], args[1], code, file.out)
	}
}

// cmdIn runs a line in a shell that is connected by pipes. A line that ends the
// shell is an error.
func cmdIn(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "in NAME [CODE] LINE")
	want, line := "0", args[len(args)-1]
	if len(args) > 2 {
		want = args[1]
	}
	before := len(running(ts, args[0]).err.String())
	got := shellIn(ts, args[0], line)
	fmt.Fprint(ts.Stdout(), got.out)
	fmt.Fprint(ts.Stderr(), running(ts, args[0]).err.String()[before:])
	if got.code != want {
		ts.Fatalf("in %s: %s ended with %s, want %s", args[0], line, got.code, want)
	}
}

// A shellEnd is what a line in a shell came to.
type shellEnd struct{ out, code string }

func shellIn(ts *testscript.TestScript, name, line string) shellEnd {
	s := running(ts, name)
	// No line of a program is like this one.
	const mark = "-- the line has ended with "
	if _, err := fmt.Fprintf(s.stdin, "{ %s\n} </dev/null 2>&1; set -- $?; echo; echo '%s'$1\n", line, mark); err != nil {
		ts.Fatalf("%v\nstderr:\n%s", err, s.err)
	}
	out, err := s.out.until(regexp.MustCompile(`(?m)^` + mark + `(\d+)\n`))
	if err != nil {
		ts.Fatalf("%v\nstderr:\n%s", err, s.err)
	}
	at := strings.LastIndex(out, "\n"+mark)
	return shellEnd{out[:at], strings.TrimSpace(out[at+1+len(mark):])}
}

// compile FILE PACKAGE TAGS
func cmdCompile(ts *testscript.TestScript, args []string) {
	need(ts, args, 3, "compile FILE PACKAGE TAGS")
	cmd := exec.Command("go", "test", "-c", "-trimpath", "-o", ts.MkAbs(args[0]), "-tags", args[2], args[1])
	cmd.Dir = sourceDir()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("compile the tests of %s: %v\n%s", args[1], err, out)
	}
}

func cmdPID(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "pid NAME VAR")
	ts.Setenv(args[1], strconv.Itoa(running(ts, args[0]).cmd.Process.Pid))
}

func cmdEOF(ts *testscript.TestScript, args []string) {
	need(ts, args, 1, "eof NAME")
	if err := running(ts, args[0]).stdin.Close(); err != nil {
		ts.Fatalf("%v", err)
	}
}

func cmdResize(ts *testscript.TestScript, args []string) {
	need(ts, args, 3, "resize NAME ROWS COLS")
	rows, err1 := strconv.ParseUint(args[1], 10, 16)
	cols, err2 := strconv.ParseUint(args[2], 10, 16)
	if err1 != nil || err2 != nil {
		ts.Fatalf("%s by %s is no size", args[1], args[2])
	}
	// The kernel sends SIGWINCH to the terminal's foreground process group.
	if err := pty.Setsize(running(ts, args[0]).master, &pty.Winsize{Rows: uint16(rows), Cols: uint16(cols)}); err != nil {
		ts.Fatalf("%v", err)
	}
}

func cmdSignal(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "signal NAME SIGNAL")
	if err := running(ts, args[0]).cmd.Process.Signal(signalNamed(ts, args[1])); err != nil {
		ts.Fatalf("%v", err)
	}
}

func signalNamed(ts *testscript.TestScript, name string) syscall.Signal {
	sig := unix.SignalNum(name)
	if sig == 0 {
		ts.Fatalf("there is no signal %s", name)
	}
	return sig
}

func cmdKillVMM(ts *testscript.TestScript, args []string) {
	need(ts, args, 1, "killvmm NAME [SIGNAL]")
	sig := syscall.SIGKILL
	if len(args) > 1 {
		sig = signalNamed(ts, args[1])
	}
	pid := running(ts, args[0]).cmd.Process.Pid
	for _, p := range descendants(pid) {
		if strings.Contains(p.command, "qemu") {
			if err := syscall.Kill(p.pid, sig); err != nil {
				ts.Fatalf("%v", err)
			}
			return
		}
	}
	ts.Fatalf("there is no hypervisor below %s, only %v", args[0], descendants(pid))
}

func cmdFinish(ts *testscript.TestScript, args []string) {
	need(ts, args, 2, "finish NAME CODE")
	s := running(ts, args[0])
	delete(scriptOf(ts).sessions, args[0])
	done(ts, args[0], s, args[1])
	if s.stdin != nil {
		s.stdin.Close()
	}
}

func cmdClean(ts *testscript.TestScript, args []string) {
	script := scriptOf(ts)
	only := len(args) == 1 && args[0] == "processes"
	var left []string
	// The kernel needs a moment to bury what was killed.
	for range 300 {
		left = nil
		for _, p := range script.processes() {
			left = append(left, fmt.Sprintf("process %d: %s", p.pid, p.command))
		}
		if !only {
			left = append(left, script.files(ts)...)
		}
		if left == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("these are left:\n%s", strings.Join(left, "\n"))
}
