package udp

import (
	"context"
	"sync"
	"time"

	"bake/internal/wire"
)

const (
	// maxQueries bounds the DNS queries that are being answered. More are
	// dropped; who asked asks again.
	maxQueries = 1024
	// answerTime bounds one of them; by then nobody waits for the answer.
	answerTime = 30 * time.Second
)

// A dnsHook gives the guest's queries to the resolver.
type dnsHook struct {
	resolver Resolver
	queue    *wire.DatagramQueue
	slots    chan struct{}
	asking   sync.WaitGroup
}

func newDNSHook(r Resolver, queue *wire.DatagramQueue) *dnsHook {
	return &dnsHook{resolver: r, queue: queue, slots: make(chan struct{}, maxQueries)}
}

// ask begins to answer d, whose memory it copies.
func (h *dnsHook) ask(ctx context.Context, d *wire.Datagram) {
	if h.resolver == nil {
		return
	}
	select {
	case h.slots <- struct{}{}:
	default:
		return
	}
	query := append([]byte(nil), d.Payload...)
	answer := wire.Datagram{Kind: wire.DatagramUDP, Source: d.Destination, Destination: d.Source}
	h.asking.Go(func() {
		defer func() { <-h.slots }()
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		if answer.Payload = h.resolver.Exchange(ctx, query); answer.Payload != nil {
			h.queue.Put(&answer)
		}
	})
}

// wait returns when no query is being answered. Nothing asks meanwhile.
func (h *dnsHook) wait() { h.asking.Wait() }
