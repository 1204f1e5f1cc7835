package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Resolve makes Host absolute, seen from the directory dir with home for "~",
// and checks what is there: a folder or a regular file for a KindShare, a file
// or block device for a KindImage. A missing folder is made where Create says
// so, with its parents.
//
// The checks are for the user, who reads what is wrong before anything starts.
// What opens the volume later decides for itself.
func (s *Spec) Resolve(dir, home string) error {
	if s.Kind != KindShare && s.Kind != KindImage {
		return nil
	}
	written := s.Host
	var err error
	if s.Host, err = absolute(written, dir, home); err != nil {
		return fmt.Errorf("the volume %s: %w", written, err)
	}
	if s.Kind == KindImage {
		_, err = statImage(s.Host)
		if err != nil && errors.Is(err, fs.ErrNotExist) && CheckName(written) == nil {
			err = fmt.Errorf("%w; if the volume of that name is meant, leave :ext4 out", err)
		}
	} else {
		err = s.resolveShare()
	}
	if err != nil {
		return fmt.Errorf("the volume %s: %w", written, err)
	}
	return nil
}

// absolute resolves "~" and relative paths.
func absolute(path, dir, home string) (string, error) {
	if strings.HasPrefix(path, "~") {
		user, rest, _ := strings.Cut(path[1:], "/")
		if user != "" {
			return "", fmt.Errorf("only your own home can be written with ~: write the path of %s's home, or ./%s for a file of that name", user, path)
		}
		if !filepath.IsAbs(home) {
			return "", errors.New("your home is not known ($HOME is not set): write the path")
		}
		return filepath.Join(home, rest), nil
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	if !filepath.IsAbs(dir) {
		return "", errors.New("the current folder is not known: write a path that begins with a slash")
	}
	return filepath.Join(dir, path), nil
}

func (s *Spec) resolveShare() error {
	info, err := os.Stat(s.Host)
	if errors.Is(err, fs.ErrNotExist) {
		if !s.Create {
			return missing(s.Host, "make it, or write :create after the path in the container and a folder is made")
		}
		if link, err := os.Readlink(s.Host); err == nil {
			return fmt.Errorf("%s is a symbolic link to %s, which does not exist: make that, or remove the link", s.Host, link)
		}
		if err := os.MkdirAll(s.Host, 0o755); err != nil {
			return fmt.Errorf("make the folder: %w", err)
		}
		info, err = os.Stat(s.Host)
	}
	if err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	mode := info.Mode()
	switch {
	case mode.IsDir():
	case mode.IsRegular():
		s.File = true
	case mode&fs.ModeSocket != 0:
		return fmt.Errorf("%s is a socket, and what listens on it cannot be reached from a virtual machine by a file", s.Host)
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		return fmt.Errorf("%s is a block device: write :ext4 after the path in the container to use the filesystem on it", s.Host)
	default:
		return fmt.Errorf("%s is neither a folder nor a regular file, and nothing else can be shared", s.Host)
	}
	return s.mayOpen(mode)
}

// mayOpen says early what the user may not do. A folder that cannot be
// written, but read, is no error: docker has none either, and much that is
// shared is only read.
func (s *Spec) mayOpen(mode fs.FileMode) error {
	f, err := os.Open(s.Host)
	if err != nil {
		return fmt.Errorf("you may not read it: %w", err)
	}
	f.Close()
	if !mode.IsRegular() || s.ReadOnly {
		return nil
	}
	if f, err = os.OpenFile(s.Host, os.O_WRONLY, 0); err == nil {
		return f.Close()
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("you may not write %s: write :ro after the path in the container to share it for reading", s.Host)
	}
	return fmt.Errorf("open it for writing: %w", err)
}

// missing is the error about a path that does not exist.
func missing(path, cure string) error {
	if link, err := os.Readlink(path); err == nil {
		return &missingError{fmt.Sprintf("%s is a symbolic link to %s, which does not exist", path, link)}
	}
	return &missingError{fmt.Sprintf("there is no %s: %s", path, cure)}
}

// A missingError is fs.ErrNotExist as a sentence.
type missingError struct{ text string }

func (e *missingError) Error() string        { return e.text }
func (e *missingError) Is(target error) bool { return target == fs.ErrNotExist }

// statImage says what kind of file an image is, and refuses what cannot be one.
func statImage(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(path, "make one with mkfs.ext4, or use a named volume, which is made by itself: NAME:/path")
	}
	if err != nil {
		return nil, fmt.Errorf("look at it: %w", err)
	}
	return info, imageMode(path, info.Mode())
}

func imageMode(path string, mode fs.FileMode) error {
	switch {
	case mode.IsRegular():
	case mode.IsDir():
		return fmt.Errorf("%s is a folder and no image of a disk: leave :ext4 out to share it", path)
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
	default:
		return fmt.Errorf("%s is neither a file nor a block device, so it is no image of a disk", path)
	}
	return nil
}
