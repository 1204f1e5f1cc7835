package files

import (
	"context"
	"errors"
	"net"
)

func serve9P(ctx context.Context, conn net.Conn, s *share) error { return errors.ErrUnsupported }
func serveFUSE(ctx context.Context, s *share) error              { return errors.ErrUnsupported }
