package instancecmd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/instance"
)

func TestLogs(t *testing.T) {
	register(t)
	a := start(t, instance.Info{Name: "ann", Detached: true, Keep: true})
	log := instance.LogIn(a.dir.Path())
	if out := run(t, "logs", "ann"); out != "" {
		t.Errorf("a log that nobody has begun is %q", out)
	}
	write(t, log+instance.OlderLog, "one\ntw")
	write(t, log, "o\n\x1b[31mthree\x1b[0m\nfour")
	// As the container wrote it, colours and all.
	all := "one\ntwo\n\x1b[31mthree\x1b[0m\nfour"
	for _, ended := range []bool{false, true} {
		if ended {
			a.end(instance.Exit{})
		}
		for tail, want := range map[string]string{
			"all": all, "0": "", "1": "four", "2": "\x1b[31mthree\x1b[0m\nfour", "3": all[4:], "4": all, "99": all,
		} {
			if out := run(t, "logs", "-n", tail, "ann"); out != want {
				t.Errorf("the last %s lines: %q, want %q", tail, out, want)
			}
		}
	}
	if out := run(t, "logs", "-f", "ann"); out != all {
		t.Errorf("following what has ended: %q", out)
	}
	start(t, instance.Info{Name: "bob"})
	fails(t, testApp, 1, "its output is where it was started", "logs", "bob")
	fails(t, testApp, 1, `"cyd"`, "logs", "cyd")
	fails(t, testApp, 125, "--tail", "logs", "-n", "-1", "bob")
	fails(t, testApp, 125, "twice", "logs", "--name", "ann", "bob")
}

func write(t *testing.T, path, s string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is followed ends with the instance, and nothing is missing of what was
// written until then.
func TestFollow(t *testing.T) {
	register(t)
	a := start(t, instance.Info{Name: "ann", Detached: true})
	log := instance.LogIn(a.dir.Path())
	write(t, log, "1\n2\n")
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := printLog(t.Context(), w, instance.Query{Name: "ann", App: testApp.App}, 1, true)
		w.Close()
		done <- err
	}()
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	expect("2\n")
	more(t, log, "3\n")
	expect("3\n")
	rotate(t, log, "4\n")
	expect("4\n")
	more(t, log, "5")
	expect("5")
	more(t, log, "6\n")
	a.end(instance.Exit{})
	rest, err := io.ReadAll(r)
	if err != nil || string(rest) != "6\n" {
		t.Errorf("at the end came %q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// more writes to the log.
func more(t *testing.T, log, s string) {
	t.Helper()
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

// rotate begins the log anew with s.
func rotate(t *testing.T, log, s string) {
	t.Helper()
	if err := os.Rename(log, log+instance.OlderLog); err != nil {
		t.Fatal(err)
	}
	write(t, log, s)
}

// Whenever the log is rotated between two looks, once or twice, nothing is
// printed twice, and nothing is missing that is still there.
func TestLogFileThroughRotations(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, log string)
		want string
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"more", func(t *testing.T, log string) { more(t, log, "b") }, "b"},
		{"rotated", func(t *testing.T, log string) { rotate(t, log, "b") }, "b"},
		{"written and rotated", func(t *testing.T, log string) { more(t, log, "b"); rotate(t, log, "c") }, "bc"},
		{"rotated twice", func(t *testing.T, log string) { rotate(t, log, "b"); rotate(t, log, "c") }, "bc"},
		{"written after it was renamed", func(t *testing.T, log string) { rotate(t, log, "c"); more(t, log+instance.OlderLog, "b") }, "bc"},
		{"removed", func(t *testing.T, log string) { more(t, log, "b"); os.Remove(log) }, "b"},
		{"renamed, and no new one", func(t *testing.T, log string) { more(t, log, "b"); os.Rename(log, log+instance.OlderLog) }, "b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			write(t, path, "a")
			l := &logFile{path: path}
			defer l.close()
			if err := l.open(-1); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			look := func() string {
				t.Helper()
				b.Reset()
				if err := l.more(&b); err != nil {
					t.Fatal(err)
				}
				return b.String()
			}
			if got := look(); got != "a" {
				t.Fatalf("at first there is %q", got)
			}
			tc.do(t, path)
			if got := look(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if got := look(); got != "" {
				t.Errorf("once more: %q", got)
			}
		})
	}
}

func TestLogThatBeginsLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := &logFile{path: path}
	defer l.close()
	if err := l.open(-1); err != nil {
		t.Fatal(err)
	}
	write(t, path, "a")
	rotate(t, path, "b")
	var b bytes.Buffer
	if err := l.more(&b); err != nil || b.String() != "ab" {
		t.Errorf("got %q, %v", b.String(), err)
	}
}

func TestLastLines(t *testing.T) {
	// Longer than what is read at once, and with lines across its bounds.
	var text strings.Builder
	for i := range 30000 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	s := text.String()
	for _, end := range []string{"", "\n"} {
		s := strings.TrimSuffix(s, "\n") + end
		all := strings.SplitAfter(strings.TrimSuffix(s, "\n"), "\n")
		for _, n := range []int{1, 2, 7000, 29999, 30000} {
			lines, atEnd := n, true
			off, found, err := lastLines(strings.NewReader(s), int64(len(s)), &lines, &atEnd)
			want := strings.Join(all[len(all)-n:], "") + end
			if err != nil || s[off:] != want || found != (n < 30000) {
				t.Errorf("the last %d lines, ending in %q, begin at %d (%v, %v), want %d", n, end, off, found, err, len(s)-len(want))
			}
		}
	}
	for s, want := range map[string]string{"": "", "\n": "\n", "\n\n": "\n", "a": "a", "a\n": "a\n", "a\n\n": "\n"} {
		lines, atEnd := 1, true
		off, _, err := lastLines(strings.NewReader(s), int64(len(s)), &lines, &atEnd)
		if err != nil || s[off:] != want {
			t.Errorf("the last line of %q is %q, %v, want %q", s, s[off:], err, want)
		}
	}
}
