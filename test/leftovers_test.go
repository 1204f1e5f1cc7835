//go:build linux

package test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// A process is a running one, from proc(5).
type process struct {
	pid     int
	parent  int
	command string
}

// allProcesses lists those that run; a zombie does not.
func allProcesses() []process {
	var all []process
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		// The name may hold anything, so the fields are counted from its end.
		rest := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(rest) < 2 || rest[0] == "Z" || rest[0] == "X" {
			continue
		}
		parent, _ := strconv.Atoi(rest[1])
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		all = append(all, process{pid, parent, strings.ReplaceAll(strings.TrimSuffix(string(cmdline), "\x00"), "\x00", " ")})
	}
	return all
}

// descendants are the children of pid and theirs.
func descendants(pid int) []process {
	all := allProcesses()
	below := map[int]bool{pid: true}
	var found []process
	for again := true; again; {
		again = false
		for _, p := range all {
			if below[p.parent] && !below[p.pid] {
				below[p.pid], again = true, true
				found = append(found, p)
			}
		}
	}
	return found
}

// processes are those of this script that were not started by it as sessions
// which still run: those that have a file of the script open, or run one.
func (s *script) processes() []process {
	var found []process
	for _, p := range allProcesses() {
		if p.pid != os.Getpid() && !s.known(p.pid) && s.holds(p.pid) {
			found = append(found, p)
		}
	}
	return found
}

// known says whether pid is a session of the script or below one.
func (s *script) known(pid int) bool {
	for _, session := range s.sessions {
		if session.cmd.Process.Pid == pid {
			return true
		}
		for _, p := range descendants(session.cmd.Process.Pid) {
			if p.pid == pid {
				return true
			}
		}
	}
	return false
}

// holds says whether a process has anything of the script open.
func (s *script) holds(pid int) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	links := []string{filepath.Join(dir, "exe"), filepath.Join(dir, "cwd"), filepath.Join(dir, "root")}
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	for _, fd := range fds {
		links = append(links, filepath.Join(dir, "fd", fd.Name()))
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && (strings.HasPrefix(target, s.work+"/") || strings.HasPrefix(target, s.runtime)) {
			return true
		}
	}
	return false
}

// files are those that bake should have removed.
func (s *script) files(ts *testscript.TestScript) []string {
	var left []string
	for _, pattern := range []string{
		filepath.Join(s.runtime, "bake", "*"),
		filepath.Join(s.userRuntime(), "bake", "*"),
		filepath.Join(ts.Getenv("TMPDIR"), "*"),
		filepath.Join(ts.Getenv("TMPDIR"), ".*"),
		filepath.Join(s.work, ".bake*"), filepath.Join(s.work, "bake-*"),
		filepath.Join(s.user, ".bake*"), filepath.Join(s.user, "bake-*"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			ts.Fatalf("%v", err)
		}
		for _, f := range found {
			left = append(left, "file: "+f)
		}
	}
	return left
}
