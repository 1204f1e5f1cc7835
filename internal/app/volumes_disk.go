package app

import (
	"errors"
	"io/fs"
	"os"

	"bake/internal/platform"
	"bake/internal/volume"
)

// openDisk opens and locks an image, or a named volume, which is made if there
// is none of that name.
func openDisk(s volume.Spec) (*os.File, error) {
	if s.Kind == volume.KindImage {
		return volume.OpenImage(s.Host, s.ReadOnly)
	}
	store, err := volume.DefaultStore()
	if err != nil {
		return nil, err
	}
	return store.OpenOrCreate(s.Name, s.ReadOnly)
}

// showDisk is openDisk for a VM that is only described: it makes nothing that
// stays.
func showDisk(s volume.Spec) (*os.File, error) {
	if s.Kind == volume.KindImage {
		return volume.OpenImage(s.Host, s.ReadOnly)
	}
	store, err := volume.DefaultStore()
	if err != nil {
		return nil, err
	}
	f, err := store.Open(s.Name, s.ReadOnly)
	if errors.Is(err, fs.ErrNotExist) {
		return platform.EphemeralFile("", volume.DefaultSize)
	}
	return f, err
}
