package payload

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
)

// Create writes an app to path: the carrier with the payload of the sources in it, executable by whom the
// umask allows. The app is written elsewhere in the same directory and takes the name in one step, so that
// path holds what it held or the whole app, a running app of that name keeps its file, and a failed build
// leaves nothing.
func Create(ctx context.Context, path string, carrier *io.SectionReader, sources []Source) error {
	start := make([]byte, 4)
	if err := readFull(carrier, start, 0); err != nil {
		return fmt.Errorf("read the carrier: %w", err)
	}
	if string(start) != elf.ELFMAG {
		return fmt.Errorf("build %s: the carrier is not an ELF executable", path)
	}
	err := ReplaceFile(path, 0o755, func(dst *os.File) error { return WriteELF(ctx, dst, carrier, sources) })
	if err != nil {
		return fmt.Errorf("build %s: %w", path, err)
	}
	return nil
}
