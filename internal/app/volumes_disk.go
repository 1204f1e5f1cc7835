package app

import (
	"errors"
	"os"

	"bake/internal/volume"
)

func openDisk(s volume.Spec) (*os.File, error) { return nil, errors.ErrUnsupported }
