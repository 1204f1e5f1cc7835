//go:build linux

package hostnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A flow carries one TCP connection of the guest over a stream to the host.
// Each direction ends alone, and as it ended: FIN as the stream's end, RST as
// a stream that breaks without.
type flow struct {
	ep    tcpip.Endpoint
	queue *waiter.Queue
	conn  net.Conn
	raw   syscall.RawConn
	once  sync.Once
}

func newFlow(ep tcpip.Endpoint, queue *waiter.Queue, conn net.Conn) (*flow, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a stream to the host (%T) has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	// What is written is to be sent: the guest's kernel has waited already.
	ep.SocketOptions().SetDelayOption(false)
	return &flow{ep: ep, queue: queue, conn: conn, raw: raw}, nil
}

// run returns when both directions have ended.
func (f *flow) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, f.reset)
	defer stop()
	var back sync.WaitGroup
	back.Go(func() {
		if f.toGuest() != nil {
			f.reset()
		}
	})
	if f.toHost() != nil {
		f.reset()
	}
	back.Wait()
	f.once.Do(func() {
		f.ep.Close()
		f.conn.Close()
	})
}

// reset breaks both ends.
func (f *flow) reset() {
	f.once.Do(func() {
		f.ep.Abort()
		f.conn.Close()
	})
}

// errReset is the end of a connection that the guest broke off.
var errReset = errors.New("the guest reset the connection")

// toHost carries the guest's data. Netstack's buffers are written to the
// stream as they are, as far as it takes them; meanwhile netstack waits with
// this connection, which is why that write must not block.
func (f *flow) toHost() error {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp | waiter.EventRdHUp)
	f.queue.EventRegister(&entry)
	defer f.queue.EventUnregister(&entry)

	var w frameWriter
	var terr tcpip.Error
	var errno syscall.Errno
	move := func(fd uintptr) bool {
		w.fd, errno = fd, 0
		for {
			if _, terr = f.ep.Read(&stepWriter{&w, &errno}, tcpip.ReadOptions{}); errno != 0 || terr != nil {
				return errno != unix.EAGAIN
			}
		}
	}
	for {
		if err := f.raw.Write(move); err != nil {
			return err
		}
		if errno != 0 {
			return errno
		}
		switch terr.(type) {
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrClosedForReceive:
			if tcp.EndpointState(f.ep.State()) == tcp.StateError {
				return errReset
			}
			return f.endToHost(&w)
		default:
			return errReset
		}
	}
}

// A stepWriter keeps the error of a write, of which netstack only says that
// there was one.
type stepWriter struct {
	w     *frameWriter
	errno *syscall.Errno
}

func (s *stepWriter) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if err != nil {
		*s.errno = err.(syscall.Errno)
	}
	return n, err
}

func (f *flow) endToHost(w *frameWriter) error {
	var errno syscall.Errno
	err := f.raw.Write(func(fd uintptr) bool {
		w.fd = fd
		errno = w.end()
		return errno != unix.EAGAIN
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// toGuest carries the host's data: it is read into the buffers that netstack
// sends and keeps until they are acknowledged.
func (f *flow) toGuest() error {
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	f.queue.EventRegister(&entry)
	defer f.queue.EventUnregister(&entry)

	r := payloader{frameReader: newFrameReader(f.raw)}
	for {
		n, err := r.next()
		if err == io.EOF {
			if terr := f.ep.Shutdown(tcpip.ShutdownWrite); terr != nil {
				return errReset
			}
			return nil
		}
		if err != nil {
			return err
		}
		r.size = min(n, segment)
		switch _, terr := f.ep.Write(&r, tcpip.WriteOptions{}); terr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		default:
			return errReset
		}
	}
}

// A payloader is what netstack reads the payload of one segment from, of a
// frame that is under way.
type payloader struct {
	*frameReader
	size int
}

func (p *payloader) Len() int { return p.size }

// segment is how much data netstack sends in one packet, at most.
const segment = gsoMaxSize - header.TCPTotalHeaderMaximumSize - 1
