// Package inspect is what `bake inspect`, `bake verify` and `bake extract` do: it looks into a packed app
// without running it. It reads through package payload alone and treats the app as untrusted, down to what it
// prints on a terminal.
//
// It knows nothing of flags or of how an app runs.
package inspect

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"bake/internal/payload"
)

// A Report says what an app is made of. The JSON names are stable: fields are added, never renamed.
type Report struct {
	Path     string            `json:"path"`
	Size     int64             `json:"size"`    // of the file, bytes
	Carrier  string            `json:"carrier"` // format of the executable: elf
	Payload  Extent            `json:"payload"`
	Parts    []Part            `json:"parts"`
	Manifest *payload.Manifest `json:"manifest,omitempty"` // nil if the payload has none
}

// An Extent is a range of bytes in the file.
type Extent struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
}

// A Part is one embedded file, with its offset in the app's file.
type Part struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hex; as recorded, see Verify
}

// Inspect reads the tables and the manifest of the app at path; no other part, so that it takes the same time
// for any size. A file that is no app is payload.ErrNoPayload.
func Inspect(path string) (Report, error) {
	app, err := payload.OpenFile(path)
	if err != nil {
		return Report{}, notAnApp(path, err)
	}
	defer app.Close()
	info, err := app.OSFile().Stat()
	if err != nil {
		return Report{}, fmt.Errorf("inspect the app: %w", err)
	}
	r := Report{
		Path: path, Size: info.Size(), Carrier: app.Location.Carrier,
		Payload: Extent{app.Offset(), app.Size()},
		Parts:   []Part{},
	}
	for _, p := range app.Parts() {
		r.Parts = append(r.Parts, Part{p.Name, app.Offset() + p.Offset, p.Size, hex.EncodeToString(p.SHA256[:])})
	}
	if _, ok := app.Part(payload.PartManifest); ok {
		if r.Manifest, err = app.Manifest(); err != nil {
			return Report{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	return r, nil
}

// PrintJSON writes the report as one indented JSON object and a newline.
func (r Report) PrintJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// notAnApp makes the commonest mistake, a file that is something else, one plain sentence.
func notAnApp(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no file %s", path)
	}
	return err
}
