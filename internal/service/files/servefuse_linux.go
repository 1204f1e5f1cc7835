package files

import (
	"context"

	"bake/internal/service/files/virtiofs"
)

func serveFUSE(ctx context.Context, s *share) error {
	// Serve closes the socket and leaves the tree.
	return virtiofs.Serve(ctx, s.socket, s.tree, virtiofs.Options{
		Cache: virtiofs.Cache(s.Cache), Descriptors: s.nodes / 2, Logf: s.log,
	})
}
