package payload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ReplaceFile gives path the contents that write writes, in a new inode with the permissions perm less the
// umask. When write fails, path stays as it is and nothing else is left. What exists under path must be a
// regular file or a link, which is then replaced itself. The data is not forced to the disk: an app can be
// built again, and fsync of a large one takes longer than building it.
func ReplaceFile(path string, perm os.FileMode, write func(*os.File) error) error {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() && info.Mode()&os.ModeSymlink == 0 {
		return errors.New("something that is not a regular file has that name: choose another output")
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil {
		return fmt.Errorf("look at the output directory: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if f, err := openUnnamed(dir, perm); err == nil {
		defer f.Close()
		return replaceUnnamed(f, path, write)
	}
	return replaceNamed(path, perm, write)
}

// replaceUnnamed writes to f, a file without a name, and names it path.
func replaceUnnamed(f *os.File, path string, write func(*os.File) error) error {
	if err := write(f); err != nil {
		return err
	}
	return withTempName(path, func(temp string) error {
		if err := nameFile(f, temp); err != nil {
			return err
		}
		return renameOrRemove(temp, path)
	})
}

// replaceNamed is for file systems where every file has a name; a killed build leaves it.
func replaceNamed(path string, perm os.FileMode, write func(*os.File) error) error {
	return withTempName(path, func(temp string) error {
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if err != nil {
			return err
		}
		err = write(f)
		// Some file systems (NFS) report a full disk only here.
		if err := errors.Join(err, f.Close()); err != nil {
			return errors.Join(err, os.Remove(temp))
		}
		return renameOrRemove(temp, path)
	})
}

// withTempName calls make with hidden names next to path until one is free.
func withTempName(path string, make func(temp string) error) error {
	dir, base := filepath.Split(path)
	if len(base) > 200 {
		base = base[:200] // NAME_MAX is 255
	}
	for i := 0; ; i++ {
		err := make(fmt.Sprintf("%s.%s.%d.%d", dir, base, os.Getpid(), i))
		if !errors.Is(err, os.ErrExist) || i == 1000 {
			return err
		}
	}
}

func renameOrRemove(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}
