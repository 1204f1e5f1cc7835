package payload

import (
	"debug/elf"
	"fmt"
	"io"
)

// A Location is where in a carrier the payload is.
type Location struct {
	Carrier string // format of the file around it: "elf"
	Offset  int64  // bytes from the start of the file
	Size    int64  // bytes
}

// Find looks at the first bytes of a file for its format and asks that carrier for the payload. A file that is no
// executable, or carries nothing, is ErrNoPayload.
func Find(r io.ReaderAt) (Location, error) {
	start := make([]byte, 4)
	if err := readFull(r, start, 0); err != nil && err != errCut {
		return Location{}, fmt.Errorf("read the start of the file: %w", err)
	}
	switch string(start) {
	case elf.ELFMAG:
		off, size, err := FindELF(r)
		if err != nil {
			return Location{}, err
		}
		return Location{"elf", off, size}, nil
	default:
		return Location{}, fmt.Errorf("the file is not an executable that bake builds: %w", ErrNoPayload)
	}
}
