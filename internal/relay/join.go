package relay

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Join carries a's data to b and b's to a until both directions have ended:
// the end of one direction is carried as such, so that the other goes on, and
// a connection that breaks resets the other. It closes both before it returns,
// and returns the error that ended it, or nil after two clean ends. When ctx
// ends, both are reset.
func Join(ctx context.Context, a, b Conn) error {
	var once sync.Once
	var cause error
	reset := func(err error) {
		once.Do(func() {
			cause = err
			Reset(a)
			Reset(b)
		})
	}
	stop := context.AfterFunc(ctx, func() { reset(context.Cause(ctx)) })

	var back sync.WaitGroup
	back.Go(func() {
		if err := transfer(a, b); err != nil {
			reset(err)
		}
	})
	if err := transfer(b, a); err != nil {
		reset(err)
	}
	back.Wait()
	stop()
	once.Do(func() {}) // waits for a reset under way
	return errors.Join(cause, ignoreClosed(cause, a.Close()), ignoreClosed(cause, b.Close()))
}

// ignoreClosed passes on an error of closing a connection that nothing else
// was wrong with.
func ignoreClosed(cause, err error) error {
	if cause != nil {
		return nil
	}
	return err
}

// Reset closes c such that its peer reads a reset and not an end: with RST
// where c is a TCP connection (SO_LINGER of socket(7) with a time of zero),
// without FIN where it is a [Stream].
func Reset(c Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}

// transfer carries one direction and its end.
func transfer(to, from Conn) error {
	if err := copyData(to, from); err != nil {
		return err
	}
	return to.CloseWrite()
}

func copyData(to, from Conn) error {
	if s, ok := from.(*Stream); ok {
		_, err := s.WriteTo(to)
		return err
	}
	if s, ok := to.(*Stream); ok {
		_, err := s.ReadFrom(from)
		return err
	}
	src := newSource(from)
	defer src.release()
	for {
		b, err := src.next(0)
		if len(b) > 0 {
			if _, werr := to.Write(b); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
