//go:build linux

package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"bake/internal/agent/datagram"
	"bake/internal/agent/hostnet"
	"bake/internal/agent/link"
	"bake/internal/socks5"
	"bake/internal/wire"
)

// beginHostnet has setUpHostnet done beside the steps that wait for the disks.
func (a *agent) beginHostnet(ctx context.Context) error {
	a.wayOut = make(chan error, 1)
	go func() {
		before := time.Now()
		err := a.protect(func() error { return a.setUpHostnet(ctx) })
		a.log.verbose("the way out took %v", time.Since(before).Round(10*time.Microsecond))
		a.wayOut <- err
	}()
	return nil
}

func (a *agent) finishHostnet(ctx context.Context) error {
	select {
	case err := <-a.wayOut:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// setUpHostnet makes the guest's way out and takes datagrams of published
// ports. Both last as long as the guest.
func (a *agent) setUpHostnet(ctx context.Context) error {
	m := a.manifest
	if !m.Datagrams {
		return nil
	}
	datagrams, err := datagram.Dial(ctx, func(ctx context.Context) (net.Conn, error) { return link.Dial(ctx, wire.PortUDP) })
	if err != nil {
		return err
	}
	go func() {
		<-datagrams.Done()
		if err := datagrams.Err(); err != nil {
			a.warn("the guest's UDP does not work any more: %v", err)
		}
	}()
	if m.Network == nil {
		return nil
	}
	h, err := hostnet.Start(ctx, m.Network, hostnet.Options{
		DialTCP: dialTCP, Datagrams: datagrams,
		Failed: func(err error) { a.warn("the guest's TCP does not work: %v", err) },
	})
	if err != nil {
		return fmt.Errorf("set up the guest's network: %w", err)
	}
	train := h.NewTrain()
	datagrams.Receive(train.Add, train.Flush)
	return nil
}

// dialTCP has the host connect. What it returns is a stream in relay's frames.
func dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	conn, err := link.Dial(ctx, wire.PortSOCKS)
	if err != nil {
		return nil, err
	}
	// The stream that this makes has read nothing yet, so hostnet can have the
	// connection itself.
	if _, err := socks5.ConnectStream(ctx, conn, socks5.Address{AddrPort: to}); err != nil {
		return nil, err
	}
	return conn, nil
}
