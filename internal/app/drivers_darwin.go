package app

import (
	"context"

	"bake/internal/hypervisor"
)

// drivers are the hypervisors of this system. There is none for macOS yet.
func drivers(context.Context, *Image, bool, Stdio) ([]hypervisor.Driver, error) { return nil, nil }
