//go:build linux

package sshd

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/agent/container"
	"bake/internal/agent/signals"
	"bake/internal/wire"
)

const (
	// maxEnv and maxEnvSize bound the variables of a session, in number and in
	// bytes.
	maxEnv     = 1024
	maxEnvSize = 128 << 10
	// maxEarly is how many signals may arrive before the program runs.
	maxEarly = 16
)

// A session is a channel of the type "session" (RFC 4254, section 6): at first
// what is to be, then one program.
type session struct {
	conn *connection
	ch   ssh.Channel
	// ctx ends when the client closes the channel.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	// What serve alone uses, and run reads.
	env     []string
	envSize int
	pty     *ptyRequest
	agent   *agentSocket
	begun   bool

	mu       sync.Mutex
	rows     uint16
	cols     uint16
	program  Program  // once it runs
	terminal *os.File // of the program
	early    []unix.Signal
}

func newSession(c *connection, ch ssh.Channel) *session {
	s := &session{conn: c, ch: ch}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	return s
}

// serve answers the client's requests, in their order, until it closes the
// channel or the program has ended, and waits for all of the session.
func (s *session) serve(requests <-chan *ssh.Request) {
	for r := range requests {
		ok, then := s.request(r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		if then != nil {
			s.running.Go(then)
		}
	}
	// Whatever still runs is hung up.
	s.cancel()
	s.running.Wait()
	s.ch.Close()
	if s.agent != nil {
		s.agent.close()
	}
}

// request decides about a request. What begins with it runs once the client has
// the answer.
func (s *session) request(r *ssh.Request) (ok bool, then func()) {
	switch r.Type {
	case "pty-req":
		return s.requestTerminal(r.Payload), nil
	case "env":
		return s.requestEnv(r.Payload), nil
	case "auth-agent-req@openssh.com":
		return s.requestAgent(), nil
	case "window-change":
		return s.resize(r.Payload), nil
	case "signal":
		return s.requestSignal(r.Payload), nil
	case "break":
		return s.sendBreak(), nil
	case "shell", "exec", "subsystem", wire.RequestExec, wire.RequestArchive:
		then = s.begin(r)
		return then != nil, then
	}
	return false, nil
}

func (s *session) requestTerminal(payload []byte) bool {
	var p ptyRequest
	if s.begun || s.pty != nil || ssh.Unmarshal(payload, &p) != nil || strings.ContainsRune(p.Term, 0) {
		return false
	}
	s.pty = &p
	s.setSize(p.Rows, p.Cols)
	return true
}

// requestEnv takes a variable of any name: it is the program's, and the program
// is the client's.
func (s *session) requestEnv(payload []byte) bool {
	var e envRequest
	if s.begun || ssh.Unmarshal(payload, &e) != nil {
		return false
	}
	if e.Name == "" || strings.ContainsAny(e.Name, "=\x00") || strings.ContainsRune(e.Value, 0) {
		return false
	}
	kv := e.Name + "=" + e.Value
	if len(s.env) >= maxEnv || s.envSize+len(kv) > maxEnvSize {
		return false
	}
	s.env = append(s.env, kv)
	s.envSize += len(kv)
	return true
}

func (s *session) requestAgent() bool {
	if s.begun || s.agent != nil {
		return false
	}
	a, err := s.conn.forwardAgent(s.conn.login.Account)
	if err != nil {
		s.conn.Log("SSH agent forwarding: %v", err)
		return false
	}
	s.agent = a
	return true
}

func (s *session) resize(payload []byte) bool {
	var w windowChange
	if ssh.Unmarshal(payload, &w) != nil {
		return false
	}
	s.setSize(w.Rows, w.Cols)
	return true
}

func (s *session) setSize(rows, cols uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows, s.cols = size(rows, cols)
	if s.terminal != nil {
		setWindow(s.terminal, s.rows, s.cols)
	}
}

func (s *session) requestSignal(payload []byte) bool {
	var name oneString
	if ssh.Unmarshal(payload, &name) != nil {
		return false
	}
	sig, err := signals.Parse(name.Text)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.program != nil:
		_ = s.program.Signal(sig) // it may have ended
	case len(s.early) < maxEarly:
		s.early = append(s.early, sig)
	}
	return true
}

// sendBreak is RFC 4335. A pseudoterminal has no line to break; that is no error.
func (s *session) sendBreak() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.terminal != nil
}

// begin returns what the session is for, or nil. What the client is told at
// once is whether the request makes sense; whether the program can be run, its
// exit status tells.
func (s *session) begin(r *ssh.Request) func() {
	if s.begun {
		return nil
	}
	job, err := s.jobFor(r)
	if err != nil {
		s.conn.Log("SSH %s: %v", r.Type, err)
		return nil
	}
	if !s.conn.beginSession() {
		return nil
	}
	s.begun = true
	return func() {
		defer s.conn.sessions.Done()
		s.run(job)
		s.ch.Close()
	}
}

// setProgram hands over what came before the program ran.
func (s *session) setProgram(p Program, terminal *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.program, s.terminal = p, terminal
	if terminal != nil {
		setWindow(terminal, s.rows, s.cols)
	}
	for _, sig := range s.early {
		_ = p.Signal(sig)
	}
	s.early = nil
}

// forgetTerminal is called before the terminal is closed.
func (s *session) forgetTerminal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.terminal = nil
}

// tellExit says how the program ended (RFC 4254, section 6.10).
func (s *session) tellExit(e container.Exit) {
	if e.Signal == "" {
		s.tellCode(e.Code)
		return
	}
	name := strings.TrimPrefix(e.Signal, "SIG")
	_, _ = s.ch.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{Name: name}))
}

func (s *session) tellCode(code int) {
	_, _ = s.ch.SendRequest("exit-status", false, ssh.Marshal(exitStatus{Code: uint32(code)}))
}

// tellFailure says why there is no program.
func (s *session) tellFailure(err error) {
	code := 125
	var failed *container.Error
	if errors.As(err, &failed) {
		code = failed.Code
	}
	// A client with a terminal has it in raw mode.
	_, _ = s.ch.Stderr().Write([]byte("bake: " + err.Error() + "\r\n"))
	s.tellCode(code)
}
