//go:build linux

package sshd

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/agent/console"
)

// bufferSize is what one read takes: the largest packet of a channel, in bytes.
const bufferSize = 32 << 10

// run runs the session's program and returns when all is told of it, or when
// the client is gone and the program has been hung up.
func (s *session) run(j job) {
	switch {
	case j.detached:
		s.runDetached(j)
	case j.Terminal:
		s.runTerminal(j)
	default:
		s.runPipes(j)
	}
}

// runDetached starts a program that nobody waits for, and tells that it runs.
func (s *session) runDetached(j job) {
	p, _, err := s.conn.Container.Exec(s.ctx, j.ExecConfig)
	if err != nil {
		s.tellFailure(err)
		return
	}
	go p.Wait() // ends with the program
	s.tellCode(0)
}

// runTerminal runs a program on a pseudoterminal.
func (s *session) runTerminal(j job) {
	p, master, err := s.conn.Container.Exec(s.ctx, j.ExecConfig)
	if err != nil {
		s.tellFailure(err)
		return
	}
	s.setProgram(p, master)
	hangUp := sync.OnceFunc(func() {
		s.forgetTerminal()
		master.Close() // which is SIGHUP for the program's session
	})
	defer hangUp()
	go func() { // ends with the channel
		copyInput(master, s.ch)
		// The end of what a client types goes where typing goes.
		if c, ok := endOfFile(master); ok {
			_, _ = master.Write([]byte{c})
		}
	}()
	out := newOutput(master, s.ch)
	s.finish(p, j, hangUp, out)
}

// runPipes runs a program with three streams.
func (s *session) runPipes(j job) {
	var ours []*os.File
	closeOurs := func() {
		for _, f := range ours {
			f.Close()
		}
	}
	defer closeOurs()
	theirs := []**os.File{&j.Stdin, &j.Stdout, &j.Stderr}
	for _, f := range theirs {
		their, our, err := console.Pipe(f == &j.Stdin)
		if err != nil {
			s.tellFailure(err)
			return
		}
		defer their.Close()
		*f, ours = their, append(ours, our)
	}
	p, _, err := s.conn.Container.Exec(s.ctx, j.ExecConfig)
	if err != nil {
		s.tellFailure(err)
		return
	}
	for _, f := range theirs {
		(*f).Close() // so that they end with the program
	}
	s.setProgram(p, nil)
	go func() { // ends with the channel
		if copyInput(ours[0], s.ch) {
			// Few clients know it. OpenSSH's stops reading its own input.
			_, _ = s.ch.SendRequest("eow@openssh.com", false, nil)
		}
		ours[0].Close()
		// What the program does not want, nobody keeps.
		_, _ = io.Copy(io.Discard, s.ch)
	}()
	hangUp := func() {
		closeOurs()
		_ = p.Signal(unix.SIGHUP) // it may have ended
	}
	s.finish(p, j, hangUp, newOutput(ours[1], s.ch), newOutput(ours[2], s.ch.Stderr()))
}

// finish carries the outputs until the program's end, and tells that. When the
// client is gone before, it hangs up.
func (s *session) finish(p Program, j job, hangUp func(), outputs ...*output) {
	gone := context.AfterFunc(s.ctx, hangUp)
	defer gone()
	for _, o := range outputs {
		go o.copy()
	}
	exited := make(chan struct{})
	go func() { // ends with the program
		defer close(exited)
		exit := p.Wait()
		if !j.lingers {
			for _, o := range outputs {
				// What the program wrote is there; what others write is not waited for.
				_ = o.from.SetReadDeadline(time.Unix(1, 0))
			}
		}
		s.tellExit(exit)
	}()
	select {
	case <-exited:
	case <-s.ctx.Done(): // the program may go on, as one under nohup(1)
	}
	for _, o := range outputs {
		<-o.done // hangUp ends it
	}
	_ = s.ch.CloseWrite()
}

// copyInput copies what the client sends until it ends, and says whether it was
// the program that wanted no more.
func copyInput(to *os.File, from ssh.Channel) (unwanted bool) {
	buf := make([]byte, bufferSize)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return errors.Is(err, unix.EPIPE)
			}
		}
		if err != nil {
			return false
		}
	}
}

// An output carries one stream of a program to the client.
type output struct {
	from *os.File
	to   io.Writer
	done chan struct{} // copy has returned
}

func newOutput(from *os.File, to io.Writer) *output {
	return &output{from: from, to: to, done: make(chan struct{})}
}

func (o *output) copy() {
	defer close(o.done)
	buf := make([]byte, bufferSize)
	for {
		n, err := o.from.Read(buf)
		if n > 0 {
			if _, err := o.to.Write(buf[:n]); err != nil {
				o.from.Close() // the program's next write breaks the pipe
				return
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			o.drain(buf)
			return
		case err != nil:
			return
		}
	}
}

// drain carries what there is, without waiting for more.
func (o *output) drain(buf []byte) {
	for {
		var n int
		err := control(o.from, func(fd int) (err error) {
			n, err = unix.Read(fd, buf)
			return err
		})
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		if _, err := o.to.Write(buf[:n]); err != nil {
			return
		}
	}
}
