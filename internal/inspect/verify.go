package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bake/internal/payload"
)

// Verify checks every part of the app at path against its hash and writes a line for each to w. The error
// names all that are wrong.
func Verify(ctx context.Context, path string, w io.Writer) error {
	app, err := payload.OpenFile(path)
	if err != nil {
		return notAnApp(path, err)
	}
	defer app.Close()
	var faults []error
	for _, part := range app.Parts() {
		err := app.VerifyPart(ctx, part.Name)
		if ctx.Err() != nil {
			return fmt.Errorf("verify %s: %w", path, context.Cause(ctx))
		}
		word := "ok"
		if err != nil {
			word = "BAD"
			faults = append(faults, err)
		}
		if _, err := fmt.Fprintf(w, "%-4s%s (%s)\n", word, part.Name, size(part.Size)); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	faults = append(faults, app.VerifyPadding())
	if _, ok := app.Part(payload.PartManifest); ok && len(faults) == 1 {
		_, err := app.Manifest()
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
