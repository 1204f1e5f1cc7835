package files

import (
	"context"
	"net"

	"bake/internal/service/files/ninep"
)

func serve9P(ctx context.Context, conn net.Conn, s *share) error {
	return ninep.Serve(ctx, conn, s.tree, ninep.Limits{})
}
