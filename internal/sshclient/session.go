package sshclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"

	"bake/internal/platform"
	"bake/internal/wire"
)

// ErrLost is wrapped by the errors of sessions whose end is not known.
var ErrLost = errors.New("the connection to the guest ended before the command did")

// A Request is what to run in the container. Without Exec and Line it is the
// user's login shell.
type Request struct {
	// Exec is a program by its arguments.
	Exec *wire.ExecRequest
	// Line is for the user's shell.
	Line string
	// Terminal gives the program a pseudoterminal of the type Term, with the size
	// of ours. Ours is in raw mode for that time if it is the input.
	Terminal bool
	Term     string
	// Env is KEY=VALUE for a shell; Exec has its own.
	Env []string
	// ForwardAgent lets the program use the agent that [ForwardAgent] has given
	// the client.
	ForwardAgent bool
}

// Streams are this side's ends. Without Stdin the program reads an end of file.
type Streams struct {
	Stdin          *os.File
	Stdout, Stderr *os.File
}

// Run runs a program and returns its exit code when it has ended and its output
// is written: 128+n if signal n ended it. Signals go to the program, but for
// SIGWINCH, which is about the terminal, and a second SIGINT, at which Run returns
// at once. ctx ends the session, with an error.
func Run(ctx context.Context, client *ssh.Client, r Request, std Streams, signals <-chan os.Signal) (int, error) {
	channel, requests, err := client.OpenChannel("session", nil)
	if err != nil {
		return 0, fmt.Errorf("open a session in the guest: %w", err)
	}
	s := &session{channel: channel, std: std, ended: make(chan end, 1)}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer channel.Close() // before Wait
	wg.Go(func() { s.ended <- readEnd(requests) })
	if r.Terminal {
		if s.term, err = openTerminal(std); err != nil {
			return 0, err
		}
		defer s.term.restore()
	}
	if err := s.start(r); err != nil {
		return 0, err
	}
	return s.join(ctx, signals)
}

// A session is one program.
type session struct {
	channel ssh.Channel
	std     Streams
	term    *terminal // nil without one
	ended   chan end
}

// An end is how a program ended.
type end struct {
	known bool
	code  int
}

// start makes the requests of RFC 4254, section 6, that start the program.
func (s *session) start(r Request) error {
	if s.term != nil {
		if err := s.request("pty-req", s.term.request(r.Term), "gives no terminal"); err != nil {
			return err
		}
	}
	for _, kv := range r.Env {
		// A server need not take a variable (section 6.4), and ssh(1) does not ask
		// whether it did.
		if _, err := s.channel.SendRequest("env", false, variable(kv)); err != nil {
			return lost(err)
		}
	}
	if r.ForwardAgent {
		if err := s.request("auth-agent-req@openssh.com", nil, "forwards no agent"); err != nil {
			return err
		}
	}
	switch {
	case r.Exec != nil:
		b, err := json.Marshal(r.Exec)
		if err != nil {
			return fmt.Errorf("encode the command: %w", err)
		}
		if len(b) > wire.SessionLimit {
			return fmt.Errorf("the arguments and the environment of the command are too long: they have %d bytes where at most %d are allowed", len(b), wire.SessionLimit)
		}
		return s.request(wire.RequestExec, ssh.Marshal(struct{ JSON []byte }{b}), "does not run the command")
	case r.Line != "":
		return s.request("exec", ssh.Marshal(struct{ Line string }{r.Line}), "does not run the command")
	}
	return s.request("shell", nil, "starts no shell")
}

// request makes a request that the program cannot do without.
func (s *session) request(name string, payload []byte, refusal string) error {
	ok, err := s.channel.SendRequest(name, true, payload)
	if err != nil {
		return lost(err)
	}
	if !ok {
		return fmt.Errorf("the guest's SSH server %s: it refused the request %s", refusal, name)
	}
	return nil
}

func lost(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrLost
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// join joins our streams to the program's until it has ended.
func (s *session) join(ctx context.Context, signals <-chan os.Signal) (int, error) {
	var streams sync.WaitGroup
	defer streams.Wait()
	stopInput, err := s.input(&streams)
	if err != nil {
		return 0, err
	}
	defer stopInput()
	defer s.channel.Close() // ends the output

	written := make(chan error, 2)
	streams.Go(func() { written <- write(s.std.Stdout, s.channel) })
	streams.Go(func() { written <- write(s.std.Stderr, s.channel.Stderr()) })

	interrupts := 0
	var ended chan end // nil until all that the program wrote is written
	for open := 2; ; {
		if open == 0 {
			ended = s.ended
		}
		select {
		case e := <-ended:
			if !e.known {
				return 0, ErrLost
			}
			return e.code, nil
		case err := <-written:
			if err != nil {
				return 0, err
			}
			open--
		case sig := <-signals:
			if sig == syscall.SIGINT {
				interrupts++
			}
			if interrupts > 1 {
				return codeSignal + int(syscall.SIGINT), nil
			}
			s.signal(sig)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// input sends what we read, until the end of that or until stop is called.
func (s *session) input(wg *sync.WaitGroup) (stop func(), err error) {
	if s.std.Stdin == nil {
		if s.term == nil {
			s.channel.CloseWrite()
		}
		return func() {}, nil
	}
	r, err := platform.NewCancelReader(s.std.Stdin)
	if err != nil {
		return nil, err
	}
	wg.Go(func() {
		defer r.Close()
		io.Copy(s.channel, r)
		s.channel.CloseWrite()
	})
	return r.Cancel, nil
}

// signal passes a signal on. What the program does about it is its own affair, so
// nobody waits for an answer.
func (s *session) signal(sig os.Signal) {
	if sig == syscall.SIGWINCH {
		if s.term != nil {
			s.channel.SendRequest("window-change", false, s.term.change())
		}
		return
	}
	if name := signalName(sig); name != "" {
		s.channel.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{name}))
	}
}

// write copies what the program writes. A channel's reader fails with io.EOF
// alone, so an error is that of our side.
func write(w *os.File, r io.Reader) error {
	if w == nil {
		_, _ = io.Copy(io.Discard, r)
		return nil
	}
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("write the command's output: %w", err)
	}
	return nil
}

// readEnd reads what the server tells of the program's end, until the channel is
// closed.
func readEnd(requests <-chan *ssh.Request) (e end) {
	for r := range requests {
		switch r.Type {
		case "exit-status":
			var m struct{ Code uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil && m.Code <= 255 {
				e = end{known: true, code: int(m.Code)}
			}
		case "exit-signal":
			var m struct {
				Name    string
				Core    bool
				Message string
				Lang    string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				e = end{known: true, code: signalCode(m.Name)}
			}
		}
		if r.WantReply {
			r.Reply(false, nil)
		}
	}
	return e
}

// variable is the payload of an "env" request.
func variable(kv string) []byte {
	name, value, _ := strings.Cut(kv, "=")
	return ssh.Marshal(struct{ Name, Value string }{name, value})
}
