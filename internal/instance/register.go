package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bake/internal/platform"
)

// A Registration is this process in the register. Its methods are safe for
// concurrent use.
type Registration struct {
	dir    *platform.RunDir
	server *server

	mu     sync.Mutex
	info   Info
	closed bool
}

// Register tells others of this process, whose directory is dir, and serves
// what they ask it for. It fills in the version, the ID and the PID, and makes up
// a name if there is none. A name that somebody else has is an error.
func Register(dir *platform.RunDir, info Info, h Handler) (*Registration, error) {
	if info.Name != "" {
		if err := CheckName(info.Name); err != nil {
			return nil, err
		}
	}
	info.Version, info.ID, info.PID = InfoVersion, dir.ID(), os.Getpid()
	var err error
	if info.Name, err = claimName(dir, info.Name); err != nil {
		return nil, err
	}
	r := &Registration{dir: dir, info: info}
	// First the socket, then the file: whoever finds it can ask.
	if r.server, err = serve(filepath.Join(dir.Path(), apiSocket), h); err != nil {
		return nil, errors.Join(err, releaseName(dir, info.Name))
	}
	if err := r.write(); err != nil {
		r.server.close(Exit{})
		return nil, errors.Join(err, releaseName(dir, info.Name))
	}
	return r, nil
}

// Info is what others see now.
func (r *Registration) Info() Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info
}

// Update changes what others see, unless the registration is closed. The ID, the
// PID and the name stay.
func (r *Registration) Update(f func(*Info)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	id, pid, name := r.info.ID, r.info.PID, r.info.Name
	f(&r.info)
	r.info.ID, r.info.PID, r.info.Name = id, pid, name
	return r.write()
}

func (r *Registration) write() error {
	if err := writeJSON(r.path(), r.info); err != nil {
		return fmt.Errorf("tell others of this instance: %w", err)
	}
	return nil
}

func (r *Registration) path() string { return filepath.Join(r.dir.Path(), infoFile) }

// Close takes the instance out of the register, keeps it among those that have
// ended if Info.Keep says so, tells those who wait, and ends what is served.
// The log must be complete. The directory remains, for the caller to close.
func (r *Registration) Close(exit Exit) error {
	r.mu.Lock()
	was := r.closed
	r.closed = true
	info := r.info
	r.mu.Unlock()
	if was {
		return nil
	}
	var errs []error
	if info.Keep {
		errs = append(errs, keep(r.dir.Path(), info, exit, time.Now()))
	}
	if err := os.Remove(r.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("take this instance out of the register: %w", err))
	}
	errs = append(errs, releaseName(r.dir, info.Name))
	r.server.close(exit)
	return errors.Join(errs...)
}
