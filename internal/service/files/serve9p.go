package files

import (
	"context"
	"net"

	"bake/internal/service/files/ninep"
	"bake/internal/wire"
)

func serve9P(ctx context.Context, conn net.Conn, s *share) error {
	return ninep.Serve(ctx, conn, s.tree, ninep.Limits{
		Cacheable: s.Cache == wire.CacheLoose, Uncached: s.Cache == wire.CacheNone,
	})
}
