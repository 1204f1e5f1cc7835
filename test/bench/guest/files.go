//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// block is what is written and read at once, in bytes.
const block = 1 << 20

// files is "guest files WHAT DIR N": it measures one thing in a directory.
func files(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: files sequential|small|find DIR N")
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	switch args[0] {
	case "sequential":
		return sequential(args[1], n)
	case "small":
		return small(args[1], n)
	case "find":
		return find(args[1], n)
	}
	return fmt.Errorf("nothing is measured that is called %q", args[0])
}

// measure prints what something took, in microseconds.
func measure(name string, f func() error) error {
	began := time.Now()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf("%s %d\n", name, time.Since(began).Microseconds())
	return nil
}

// forget has the kernel give up what it keeps of files.
func forget() error { return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) }

// sequential writes and reads a file of some MiB.
func sequential(dir string, mib int) error {
	path := filepath.Join(dir, "sequential")
	b := make([]byte, block)
	for i := range b {
		b[i] = byte(i * 7)
	}
	err := measure("write", func() error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for range mib {
			if _, err := f.Write(b); err != nil {
				return err
			}
		}
		return f.Close()
	})
	if err != nil {
		return err
	}
	if err := forget(); err != nil {
		return err
	}
	err = measure("read", func() error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		total := 0
		for {
			n, err := f.Read(b)
			total += n
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		if total != mib*block {
			return fmt.Errorf("%d bytes of %d", total, mib*block)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return os.Remove(path)
}

// small makes, looks at and removes small files.
func small(dir string, n int) error {
	dir = filepath.Join(dir, "small")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	path := func(i int) string { return filepath.Join(dir, fmt.Sprintf("f%06d", i)) }
	each := func(name string, f func(i int) error) error {
		return measure(name, func() error {
			for i := range n {
				if err := f(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := each("create", func(i int) error { return os.WriteFile(path(i), []byte("hello"), 0o644) }); err != nil {
		return err
	}
	// A second look, after what was told at the creation has expired.
	time.Sleep(1500 * time.Millisecond)
	if err := each("stat", func(i int) error { _, err := os.Stat(path(i)); return err }); err != nil {
		return err
	}
	if err := each("readall", func(i int) error { _, err := os.ReadFile(path(i)); return err }); err != nil {
		return err
	}
	if err := each("unlink", func(i int) error { return os.Remove(path(i)) }); err != nil {
		return err
	}
	return os.Remove(dir)
}

// find is find(1) that looks at every file.
func find(dir string, want int) error {
	if err := forget(); err != nil {
		return err
	}
	return measure("find", func() error {
		n := 0
		err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if _, err := d.Info(); err != nil {
				return err
			}
			if !d.IsDir() {
				n++
			}
			return nil
		})
		if err == nil && n != want {
			err = fmt.Errorf("%d files, not %d", n, want)
		}
		return err
	})
}
