package dns

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"
)

const (
	// idleTime is how long a connection may be without a query: RFC 7766,
	// section 6.2.3, asks for seconds.
	idleTime = 30 * time.Second
	// writeTime is how long a client may take to read an answer.
	writeTime = 10 * time.Second
	// maxPipelined bounds the queries of one connection that are being
	// answered; the next is read when one is done.
	maxPipelined = 64
)

// ServeStream answers the queries of one connection (RFC 7766), many at once
// and in the order in which the answers are there, until the client ends it,
// asks nothing for a while, or ctx ends. It closes conn.
func (s *Server) ServeStream(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var writing sync.Mutex
	var answers sync.WaitGroup
	defer answers.Wait()
	slots := make(chan struct{}, maxPipelined)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if err := conn.SetReadDeadline(time.Now().Add(idleTime)); err != nil {
			return
		}
		query, err := readMessage(conn)
		if err != nil {
			return // what was asked is still answered
		}
		answers.Go(func() {
			defer func() { <-slots }()
			answer := s.exchange(ctx, query, true)
			if answer == nil {
				return
			}
			// One write, so that it is one segment.
			msg := make([]byte, 2, 2+len(answer))
			binary.BigEndian.PutUint16(msg, uint16(len(answer)))
			msg = append(msg, answer...)
			writing.Lock()
			defer writing.Unlock()
			if conn.SetWriteDeadline(time.Now().Add(writeTime)) != nil {
				cancel()
				return
			}
			if _, err := conn.Write(msg); err != nil {
				cancel()
			}
		})
	}
}
