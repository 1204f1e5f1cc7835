package app

import (
	"bake/internal/payload"
)

// An Image is an opened app: its file, which must stay open while its VM runs,
// and what its payload says.
type Image struct {
	File     *payload.File
	Manifest *payload.Manifest
}

// OpenImage reads the manifest of f. It takes the same time for every size of
// app.
func OpenImage(f *payload.File) (*Image, error) {
	m, err := f.Manifest()
	if err != nil {
		return nil, err
	}
	return &Image{File: f, Manifest: m}, nil
}

// initScriptLimit bounds an init script, in bytes.
const initScriptLimit = 16 << 20

// InitScript is the embedded init script, or nil.
func (i *Image) InitScript() ([]byte, error) {
	if _, ok := i.File.Part(payload.PartInitScript); !ok {
		return nil, nil
	}
	return i.File.ReadAll(payload.PartInitScript, initScriptLimit)
}
