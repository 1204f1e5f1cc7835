package ssh

import (
	"context"
	"fmt"
	"net"

	"bake/internal/relay"
)

// forwardConns bounds the connections to the guest's server that go through one
// socket at once.
const forwardConns = 256

// A Dial connects to the guest's SSH server. The stream has CloseWrite.
type Dial func(ctx context.Context) (net.Conn, error)

// Forward leads every connection of ln to the guest's SSH server, until ctx ends,
// with nil. failed, if not nil, is told of each that does not get there; how the
// others end is between their two sides.
func Forward(ctx context.Context, ln net.Listener, dial Dial, failed func(error)) error {
	return relay.Serve(ctx, ln, forwardConns, func(ctx context.Context, conn net.Conn) {
		if err := forward(ctx, conn, dial); err != nil && failed != nil && ctx.Err() == nil {
			failed(err)
		}
	})
}

func forward(ctx context.Context, conn net.Conn, dial Dial) error {
	guest, err := dial(ctx)
	if err != nil {
		return err
	}
	a, ok1 := conn.(relay.Conn)
	b, ok2 := guest.(relay.Conn)
	if !ok1 || !ok2 {
		guest.Close()
		return fmt.Errorf("lead a connection to the guest's SSH server: a %T or a %T cannot end one direction alone", conn, guest)
	}
	_ = relay.Join(ctx, a, b)
	return nil
}
