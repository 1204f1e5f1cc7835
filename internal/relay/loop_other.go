//go:build !linux

package relay

import "context"

// A Loop carries many pairs of connections. Here it is [Join].
type Loop struct{}

// NewLoop starts a loop, which must be closed.
func NewLoop(hold bool) (*Loop, error) { return &Loop{}, nil }

// Close does nothing.
func (l *Loop) Close() {}

// Carried is nothing.
func (l *Loop) Carried() (toConns, toStreams uint64) { return 0, 0 }

// Join is the function [Join].
func (l *Loop) Join(ctx context.Context, s *Stream, c Conn) error { return Join(ctx, s, c) }
