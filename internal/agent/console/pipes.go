//go:build linux

package console

import (
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"bake/internal/wire"
)

// pipeSize is what a pipe holds, in bytes: the window of a vsock connection.
const pipeSize = 256 << 10

// Pipes are the three streams of a container without a terminal.
type Pipes struct {
	// Stdin, Stdout and Stderr are the container's ends. Start closes them.
	Stdin, Stdout, Stderr *os.File

	stdin     *os.File // the agent's end
	stdinConn Conn
	outputs   []*output
	running   sync.WaitGroup
}

// OpenPipes makes the pipes and connects each to the host.
func OpenPipes(ctx context.Context, dial Dial) (_ *Pipes, err error) {
	p := new(Pipes)
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.Stdin, p.stdin, err = Pipe(true); err != nil {
		return nil, err
	}
	if p.stdinConn, err = open(ctx, dial, wire.Stdin); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		name wire.Stream
		end  **os.File
	}{{wire.Stdout, &p.Stdout}, {wire.Stderr, &p.Stderr}} {
		conn, err := open(ctx, dial, s.name)
		if err != nil {
			return nil, err
		}
		theirs, ours, err := Pipe(false)
		if err != nil {
			conn.Close()
			return nil, err
		}
		*s.end = theirs
		p.outputs = append(p.outputs, newOutput(ours, conn))
	}
	return p, nil
}

// Pipe makes a pipe of which one end is the container's. That end must block:
// O_NONBLOCK belongs to the end of the pipe, not to the descriptor, and few
// programs expect it on their streams.
func Pipe(containerReads bool) (container, agent *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe for a stream of the container: %w", err)
	}
	theirs, ours := fds[0], fds[1]
	if !containerReads {
		theirs, ours = ours, theirs
	}
	if err := unix.SetNonblock(ours, true); err != nil {
		unix.Close(theirs)
		unix.Close(ours)
		return nil, nil, fmt.Errorf("make a pipe for a stream of the container: %w", err)
	}
	// Only a matter of speed.
	_, _ = unix.FcntlInt(uintptr(ours), unix.F_SETPIPE_SZ, pipeSize)
	return os.NewFile(uintptr(theirs), "pipe"), os.NewFile(uintptr(ours), "pipe"), nil
}

// Start begins to carry data. The container has its ends by now.
func (p *Pipes) Start() {
	p.closeContainerEnds()
	p.running.Go(func() {
		copyData(p.stdin, p.stdinConn)
		// Either the host's end of file goes on to the container, or the
		// container no longer reads and the host is told so.
		p.stdin.Close()
		p.stdinConn.Close()
	})
	for _, o := range p.outputs {
		p.running.Go(o.copy)
		p.running.Go(o.watch)
	}
}

func (p *Pipes) closeContainerEnds() {
	for _, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// Finish waits until the host has all the output of the container, which has
// ended, or until ctx does, and closes everything.
func (p *Pipes) Finish(ctx context.Context) {
	p.stdinConn.Close()
	for _, o := range p.outputs {
		o.finish(ctx)
	}
	p.Close()
}

// Close ends everything at once.
func (p *Pipes) Close() {
	p.closeContainerEnds()
	if p.stdin != nil {
		p.stdin.Close()
	}
	if p.stdinConn != nil {
		p.stdinConn.Close()
	}
	for _, o := range p.outputs {
		o.from.Close()
		o.to.Close()
	}
	p.running.Wait()
}
