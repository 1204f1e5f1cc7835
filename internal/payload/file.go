package payload

import (
	"fmt"
	"io"
	"os"
)

// A File is a payload together with the open carrier that it lies in. Close closes the carrier.
type File struct {
	*Payload
	Location Location
	f        *os.File
}

// OpenFile finds and opens the payload of the app at path.
func OpenFile(path string) (*File, error) {
	// Looked at first, because opening a pipe would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open the app: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", path, ErrNoPayload)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the app: %w", err)
	}
	file, err := openFile(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

func openFile(f *os.File) (*File, error) {
	where, err := Find(f)
	if err != nil {
		return nil, err
	}
	p, err := Open(f, where.Offset, where.Size)
	if err != nil {
		return nil, err
	}
	return &File{p, where, f}, nil
}

// OpenSelf opens the payload of the running program, from the very file that was started even if another has
// taken its name since (Linux).
func OpenSelf() (*File, error) {
	path, err := selfPath()
	if err != nil {
		return nil, fmt.Errorf("find the file of the running program: %w", err)
	}
	return OpenFile(path)
}

// OSFile returns the open carrier, to hand it to a process that reads parts at their FileOffset. It still
// belongs to f.
func (f *File) OSFile() *os.File { return f.f }

// Close closes the carrier; sections of it can no longer be read.
func (f *File) Close() error { return f.f.Close() }

// Source returns one part as a source for another payload, under the name as, with its hash known. f must stay
// open until it is written.
func (f *File) Source(name, as string) (Source, error) {
	part, err := f.part(name)
	if err != nil {
		return Source{}, err
	}
	open := func() (io.ReadCloser, error) {
		// A second descriptor has a position of its own and lets the kernel copy; a reader of the first one
		// always works.
		again, err := os.Open(f.f.Name())
		if err != nil {
			section, err := f.Section(name)
			return io.NopCloser(section), err
		}
		same, err := sameFile(again, f.f)
		if err == nil && same {
			_, err = again.Seek(f.off+part.Offset, io.SeekStart)
		}
		if err != nil || !same {
			again.Close()
			section, err := f.Section(name)
			return io.NopCloser(section), err
		}
		return again, nil
	}
	return Source{as, part.Size, part.SHA256, open}, nil
}

func sameFile(a, b *os.File) (bool, error) {
	infoA, err := a.Stat()
	if err != nil {
		return false, err
	}
	infoB, err := b.Stat()
	return err == nil && os.SameFile(infoA, infoB), err
}
