package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"bake/internal/platform"
	"bake/internal/relay"
	"bake/internal/wire"
)

const (
	// maxConns bounds the connections to one instance.
	maxConns = 512
	// patience is how long a peer may take to send its request, or to take an
	// answer.
	patience = 10 * time.Second
)

// A server answers on the socket "api".
type server struct {
	handler Handler
	ln      *net.UnixListener
	slots   chan struct{}
	conns   sync.WaitGroup
	accept  sync.WaitGroup

	ctx    context.Context // ends when everything must
	cancel context.CancelFunc
	ended  chan struct{} // closed when the instance has ended, exit is set then
	exit   Exit
}

// serve listens at path until close is called.
func serve(path string, h Handler) (*server, error) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for what others ask this instance: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("listen for what others ask this instance: %w", err)
	}
	s := &server{handler: h, ln: ln, slots: make(chan struct{}, maxConns), ended: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.accept.Go(s.run)
	return s, nil
}

// close tells those who wait for the end and stops. It returns when nothing
// runs any more.
func (s *server) close(exit Exit) {
	s.exit = exit
	close(s.ended)
	s.ln.Close()
	s.accept.Wait()
	// Those who wait get their answer; what else is under way is of no use now.
	s.cancel()
	s.conns.Wait()
}

func (s *server) run() {
	for {
		conn, err := s.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Such as too many open files: a moment later there may be room.
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-s.ended:
				return
			}
		}
		select {
		case s.slots <- struct{}{}:
		default:
			answer(conn, response{Error: fmt.Sprintf("%d connections to this instance are open, and more are not served", maxConns)})
			conn.Close()
			continue
		}
		s.conns.Go(func() {
			defer func() { <-s.slots }()
			defer conn.Close()
			s.one(conn)
		})
	}
}

// one serves one connection.
func (s *server) one(conn *net.UnixConn) {
	if err := checkPeer(conn); err != nil {
		return
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	stop := context.AfterFunc(s.ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	var req request
	err := wire.ReadJSON(conn, &req, requestLimit)
	stop()
	if err != nil {
		answer(conn, response{Error: fmt.Sprintf("the request cannot be read: %v", err)})
		return
	}
	ctx, hangUp := watch(s.ctx, conn)
	defer hangUp()
	if req.Op == opSSH {
		s.ssh(ctx, conn, hangUp)
		return
	}
	if answer(conn, s.do(ctx, req)) == nil && req.Op == opStop {
		select {
		case <-s.ended:
		case <-ctx.Done():
		}
	}
}

// do is what one request is for.
func (s *server) do(ctx context.Context, req request) (r response) {
	var err error
	switch req.Op {
	case opStop:
		err = s.handler.Stop(ctx, req.Timeout)
	case opSignal:
		err = s.handler.Signal(req.Signal)
	case opStats:
		var stats Stats
		if stats, err = s.handler.Stats(ctx); err == nil {
			r.Stats = &stats
		}
	case opKey:
		if key := s.handler.Key(); key != nil {
			r.Key = key.Seed()
		}
	case opWait:
		select {
		case <-s.ended:
			r.Exit = &s.exit
		case <-ctx.Done():
			// Both are ready when the instance ends.
			select {
			case <-s.ended:
				r.Exit = &s.exit
			default:
				err = context.Cause(ctx)
			}
		}
	default:
		err = fmt.Errorf("this instance cannot do %.32q: it runs an older bake, or a newer one", req.Op)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// ssh joins the connection to the guest's SSH server. hangUp ends the watch over
// the connection, so that its data can be read.
func (s *server) ssh(ctx context.Context, conn *net.UnixConn, hangUp func() (clean bool)) {
	guest, err := s.handler.Guest(ctx, wire.PortSSH)
	if err != nil {
		answer(conn, response{Error: err.Error()})
		return
	}
	if !hangUp() || answer(conn, response{}) != nil {
		guest.Close()
		return
	}
	_ = relay.Join(s.ctx, conn, guest)
}

// watch returns a context that ends when the peer hangs up, or says more than
// one request. end stops watching, and says whether neither happened.
func watch(ctx context.Context, conn *net.UnixConn) (_ context.Context, end func() (clean bool)) {
	ctx, cancel := context.WithCancel(ctx)
	conn.SetReadDeadline(time.Time{})
	clean := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := conn.Read(make([]byte, 1))
		clean = errors.Is(err, os.ErrDeadlineExceeded)
		cancel()
	}()
	return ctx, sync.OnceValue(func() bool {
		conn.SetReadDeadline(time.Unix(1, 0))
		<-done
		conn.SetReadDeadline(time.Time{})
		return clean
	})
}

// answer sends the response, which a hostile handler could make too long.
func answer(conn *net.UnixConn, r response) error {
	conn.SetWriteDeadline(time.Now().Add(patience))
	defer conn.SetWriteDeadline(time.Time{})
	const longest = responseLimit / 8 // JSON takes up to six bytes for one
	if len(r.Error) > longest {
		r.Error = r.Error[:longest]
	}
	return wire.WriteJSON(conn, r, responseLimit)
}

// checkPeer lets in who could change the instance's files anyhow.
func checkPeer(conn *net.UnixConn) error {
	uid, err := platform.PeerUID(conn)
	if err != nil {
		return fmt.Errorf("find out who asks this instance: %w", err)
	}
	if uid != 0 && uid != os.Getuid() {
		return fmt.Errorf("user %d may not ask an instance of user %d", uid, os.Getuid())
	}
	return nil
}
