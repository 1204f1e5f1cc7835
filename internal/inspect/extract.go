package inspect

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"bake/internal/payload"
)

// Extract writes the part name of the app at path to w and checks its hash on the way: after an error, what w
// got is not to be used.
func Extract(ctx context.Context, path, name string, w io.Writer) error {
	app, err := payload.OpenFile(path)
	if err != nil {
		return notAnApp(path, err)
	}
	defer app.Close()
	part, ok := app.Part(name)
	if !ok {
		return fmt.Errorf("%s has no part named %q: bake inspect lists them", path, name)
	}
	r, err := app.Section(name)
	if err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), &contextReader{ctx, r}); err != nil {
		return fmt.Errorf("extract %s from %s: %w", name, path, err)
	}
	if [sha256.Size]byte(h.Sum(nil)) != part.SHA256 {
		return fmt.Errorf("%s: part %q does not match its hash: the file was altered or damaged", path, name)
	}
	return nil
}

// ExtractFile does Extract into the file dst, which it creates or replaces only when all is right.
func ExtractFile(ctx context.Context, path, name, dst string) error {
	err := payload.ReplaceFile(dst, 0o644, func(f *os.File) error { return Extract(ctx, path, name, f) })
	if err != nil {
		return fmt.Errorf("write %s: %w", dst, err)
	}
	return nil
}

// contextReader ends a copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
