package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
)

// A failing listener accepts as its function says.
type failing struct {
	net.Listener
	accept func() (net.Conn, error)
}

func (f failing) Accept() (net.Conn, error) { return f.accept() }

// A lack of descriptors passes, and so does a connection that was taken back;
// a listener that is broken ends the service.
func TestServeGoesOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	results := []error{syscall.EMFILE, fmt.Errorf("accept: %w", syscall.ECONNABORTED), nil, syscall.ENFILE, nil, broken}
	served := 0
	err = Serve(t.Context(), failing{l, func() (net.Conn, error) {
		err := results[0]
		results = results[1:]
		if err != nil {
			return nil, err
		}
		conn, peer := net.Pipe()
		peer.Close()
		return conn, nil
	}}, 1, func(context.Context, net.Conn) { served++ })
	if !errors.Is(err, broken) || served != 2 || len(results) != 0 {
		t.Errorf("Serve: %v after %d connections, %d results left", err, served, len(results))
	}
}
