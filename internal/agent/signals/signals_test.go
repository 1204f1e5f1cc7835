//go:build linux

package signals

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]unix.Signal{
		"SIGTERM": unix.SIGTERM, "TERM": unix.SIGTERM, "term": unix.SIGTERM, "sigKill": unix.SIGKILL,
		"15": unix.SIGTERM, "1": unix.SIGHUP, "64": 64, "SIGWINCH": unix.SIGWINCH,
		"SIGIOT": unix.SIGABRT, "SIGCLD": unix.SIGCHLD, "SIGPOLL": unix.SIGIO, "SIGUNUSED": unix.SIGSYS,
		"SIGRTMIN": 34, "SIGRTMIN+3": 37, "RTMIN+30": 64, "SIGRTMAX": 64, "SIGRTMAX-14": 50, "SIGRTMAX-30": 34,
	} {
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1", "65", "9999999999999999999", "SIG", "SIGNOPE", "SIGRTMIN+31", "SIGRTMIN-1",
		"SIGRTMAX+1", "SIGRTMIN+", "SIGRTMIN+x", "SIGRTMAX-31", "SIGRTMIN++1"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %d; want an error", in, got)
		}
	}
}

func TestNameAndBack(t *testing.T) {
	for n := unix.Signal(1); n <= rtMax; n++ {
		got, err := Parse(Name(n))
		if err != nil || got != n {
			t.Errorf("Parse(Name(%d)) = %d, %v", n, got, err)
		}
	}
	for n, want := range map[unix.Signal]string{11: "SIGSEGV", 34: "SIGRTMIN", 37: "SIGRTMIN+3", 33: "33"} {
		if got := Name(n); got != want {
			t.Errorf("Name(%d) = %s, want %s", n, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"SIGTERM", "RTMIN+1", "SIGRTMAX-2", "9", "-0", "SIGRTMIN+99999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		if err == nil && (n < 1 || n > rtMax) {
			t.Errorf("Parse(%q) = %d", s, n)
		}
	})
}
