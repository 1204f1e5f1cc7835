//go:build linux

package sshd

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// poll waits until something is so.
func poll(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

func waitForFile(t *testing.T, s *testServer, path string) {
	t.Helper()
	poll(t, path+" appears", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.HasSuffix(string(b), "\n")
	})
}

// waitForEnd waits for the end of the process whose number is in a file.
func (s *testServer) waitForEnd(path string) {
	s.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		s.t.Fatal(err)
	}
	poll(s.t, "the process ends", func() bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) })
}

// A result is what came of a program.
type result struct {
	code           int
	signal         string
	stdout, stderr string
}

// exec runs a program by its arguments.
func (s *testServer) exec(r wire.ExecRequest) result {
	s.t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.run(wire.RequestExec, string(b), "")
}

// run makes a request for a program that x/crypto's sessions do not know, with
// all of its input.
func (s *testServer) run(name, payload, input string) result {
	s.t.Helper()
	ch, requests, err := s.dial().OpenChannel("session", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if ok, err := ch.SendRequest(name, true, ssh.Marshal(oneString{payload})); !ok || err != nil {
		s.t.Fatalf("%s: %v, %v", name, ok, err)
	}
	var r result
	var all sync.WaitGroup
	all.Go(func() {
		_, _ = io.WriteString(ch, input)
		_ = ch.CloseWrite()
	})
	for to, from := range map[*string]io.Reader{&r.stdout: ch, &r.stderr: ch.Stderr()} {
		all.Go(func() {
			b, _ := io.ReadAll(from)
			*to = string(b)
		})
	}
	for req := range requests {
		var status exitStatus
		var signal exitSignal
		switch {
		case req.Type == "exit-status" && ssh.Unmarshal(req.Payload, &status) == nil:
			r.code = int(status.Code)
		case req.Type == "exit-signal" && ssh.Unmarshal(req.Payload, &signal) == nil:
			r.signal = signal.Name
		}
	}
	all.Wait()
	return r
}

func itoa(n int) string { return strconv.Itoa(n) }
