package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"bake/internal/ext4"
)

const (
	// MinSize and MaxSize bound a named volume, in bytes; DefaultSize is that
	// of one that nobody made before it was used. A volume takes no more of the
	// host's disk than what was written to it.
	MinSize     = 32 << 20
	MaxSize     = ext4.MaxSize
	DefaultSize = 10 << 30

	// Subdir is the directory of a named volume that holds the user's files:
	// the root has lost+found, and a database wants an empty directory.
	Subdir = "data"

	suffix  = ".ext4"
	newFile = ".new-" // begins the name of a file that is being made
)

// A Store is the named volumes of one user: a directory with a sparse file
// NAME.ext4 for each, which any tool for ext4 images can use too. Its methods
// are safe for concurrent use, by many processes.
type Store struct{ dir string }

// NewStore returns the store in dir, which need not exist yet.
func NewStore(dir string) *Store { return &Store{dir} }

// DefaultStore is the user's own, $XDG_DATA_HOME/bake/volumes or
// ~/.local/share/bake/volumes (XDG Base Directory Specification).
func DefaultStore() (*Store, error) {
	// The specification has paths that are not absolute ignored.
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return NewStore(filepath.Join(dir, "bake", "volumes")), nil
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return nil, errors.New("named volumes have no place: set HOME, or XDG_DATA_HOME to a folder that you may write")
	}
	return NewStore(filepath.Join(home, ".local", "share", "bake", "volumes")), nil
}

// Dir is where the volumes are.
func (s *Store) Dir() string { return s.dir }

// Path is the file of the volume called name.
func (s *Store) Path(name string) string { return filepath.Join(s.dir, name+suffix) }

// CheckSize says what is wrong with the size of a new volume.
func CheckSize(size int64) error {
	if size < MinSize || size > MaxSize {
		return fmt.Errorf("a volume cannot have %s: write a size from %s to %s, such as 10g", FormatSize(size), FormatSize(MinSize), FormatSize(MaxSize))
	}
	return nil
}

// Create makes an empty volume of size bytes: all of it or nothing, even if
// the machine stops meanwhile. The error is fs.ErrExist if there is one of that
// name.
func (s *Store) Create(name string, size int64) error {
	err := CheckName(name)
	if err == nil {
		err = CheckSize(size)
	}
	if err != nil {
		return fmt.Errorf("make a volume: %w", err)
	}
	if err := s.create(name, size/sectorSize*sectorSize); err != nil {
		return fmt.Errorf("make the volume %s: %w", name, err)
	}
	return nil
}

func (s *Store) create(name string, size int64) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for volumes: %w", err)
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(s.Path(name)); err == nil {
		return &existsError{fmt.Sprintf("there is one of that name: `bake volume rm %s` removes it with all that is in it", name)}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.removeLeftovers()
	f, err := os.CreateTemp(s.dir, newFile+"*")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.finish(f, name, size); err != nil {
		os.Remove(f.Name())
		return err
	}
	return nil
}

// finish fills f and gives it its name.
func (s *Store) finish(f *os.File, name string, size int64) error {
	err := f.Truncate(size)
	if errors.Is(err, unix.EFBIG) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("the filesystem of %s takes no file of %s: choose a smaller size", s.dir, FormatSize(size))
	}
	if err != nil {
		return err
	}
	label := name[:min(len(name), 16)]
	if err := ext4.Format(f, size, ext4.Options{Label: label, Durable: true, Dir: Subdir}); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.Path(name)); err != nil {
		return err
	}
	return s.sync()
}

// Open opens the volume for a VM and locks it as [OpenImage] does. The error is
// fs.ErrNotExist if there is none of that name.
func (s *Store) Open(name string, readOnly bool) (*os.File, error) {
	f, err := s.open(name, readOnly)
	if err != nil {
		return nil, fmt.Errorf("the volume %s: %w", name, err)
	}
	return f, nil
}

func (s *Store) open(name string, readOnly bool) (*os.File, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	for {
		if _, err := os.Lstat(s.Path(name)); errors.Is(err, fs.ErrNotExist) {
			return nil, errMissing
		}
		f, err := openImage(s.Path(name), readOnly)
		if err != nil {
			return nil, err
		}
		// It may have been removed before it was locked.
		if s.is(f, name) {
			return f, nil
		}
		f.Close()
	}
}

var errMissing = &missingError{"there is none of that name: `bake volume create` makes one, `bake volume ls` lists those that there are"}

// is says whether the volume called name is the file f.
func (s *Store) is(f *os.File, name string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(s.Path(name))
	return err == nil && os.SameFile(open, now)
}

// OpenOrCreate is Open of a volume that is made with [DefaultSize] if there is
// none.
func (s *Store) OpenOrCreate(name string, readOnly bool) (*os.File, error) {
	for {
		f, err := s.Open(name, readOnly)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if err := s.Create(name, DefaultSize); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
}

// Remove removes a volume with all that is in it. The error is [ErrInUse] while
// an app has it, and fs.ErrNotExist if there is none of that name.
func (s *Store) Remove(name string) error {
	if err := s.remove(name); err != nil {
		return fmt.Errorf("remove the volume %s: %w", name, err)
	}
	return nil
}

func (s *Store) remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	unlock, err := s.lock()
	if errors.Is(err, fs.ErrNotExist) {
		return errMissing
	}
	if err != nil {
		return err
	}
	defer unlock()
	// Whoever opens it from here on finds that it is gone when he has its lock.
	f, err := os.OpenFile(s.Path(name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errMissing
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f, false); err != nil {
		var use *useError
		if errors.As(err, &use) {
			return &removeError{use}
		}
		return err
	}
	if err := os.Remove(s.Path(name)); err != nil {
		return err
	}
	return s.sync()
}

// A removeError is a useError in other words.
type removeError struct{ *useError }

func (e *removeError) Error() string {
	if e.by.pid == 0 {
		return "it is in use by an app: stop that first"
	}
	return fmt.Sprintf("it is in use by %s: stop that first", e.by)
}

// An existsError is fs.ErrExist as a sentence.
type existsError struct{ text string }

func (e *existsError) Error() string        { return e.text }
func (e *existsError) Is(target error) bool { return target == fs.ErrExist }

// lock keeps other processes from making and removing volumes, for a moment.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", s.dir, err)
	}
	return func() { f.Close() }, nil
}

// removeLeftovers removes what killed processes left half made. Who holds the
// store's lock knows that nobody is at work on them.
func (s *Store) removeLeftovers() {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newFile) {
			os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
}

// sync has the names in the folder reach the disk.
func (s *Store) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
