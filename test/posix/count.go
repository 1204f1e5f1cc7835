//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// record is the size of a number in the file of count: not a divisor of a
// page, so that numbers cross pages.
const record = 24

// count appends numbers to a file, tells each once fsync(2) has said that it
// is durable, and goes on until it is killed. Every 16th number it replaces a
// second file by rename(2), which is durable with its directory's fsync.
func count(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err := dir.Sync(); err != nil {
		return err
	}
	for n := uint64(1); ; n++ {
		if _, err := f.Write(numbered(n)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if n%16 == 0 {
			if err := replace(path+".last", numbered(n), dir); err != nil {
				return err
			}
		}
		fmt.Println("durable:", n)
	}
}

func numbered(n uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, n)
	b = binary.BigEndian.AppendUint64(b, ^n)
	return binary.BigEndian.AppendUint64(b, n*0x9e3779b97f4a7c15)
}

func replace(path string, data []byte, dir *os.File) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return dir.Sync()
}

// counted checks that the numbers 1 to last are in the file, each whole, and
// that the second file is not older. What is behind may be torn.
func counted(path, last string) error {
	n, err := strconv.ParseUint(last, 10, 64)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := uint64(1); i <= n; i++ {
		end := int(i) * record
		if end > len(data) {
			return fmt.Errorf("%d was told to be durable, the file ends with %d", n, i-1)
		}
		if string(data[end-record:end]) != string(numbered(i)) {
			return fmt.Errorf("%d was told to be durable, where %d must be is something else", n, i)
		}
	}
	if n >= 16 {
		data, err := os.ReadFile(path + ".last")
		if err != nil {
			return err
		}
		if len(data) != record {
			return fmt.Errorf("the file that was replaced has %d bytes, must have %d", len(data), record)
		}
		k := binary.BigEndian.Uint64(data)
		if string(data) != string(numbered(k)) || k < n/16*16 {
			return fmt.Errorf("the file that was replaced holds %d, must hold %d or more", k, n/16*16)
		}
	}
	fmt.Printf("%d numbers are there, %d were told\n", len(data)/record, n)
	return nil
}
