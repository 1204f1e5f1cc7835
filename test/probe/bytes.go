//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// pattern N writes N bytes that have every value and repeat nowhere; the same
// ones each time.
func pattern(args []string) error {
	n, err := number(args, 0)
	if err != nil {
		return err
	}
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], 42)
	_, err = io.Copy(os.Stdout, io.LimitReader(rand.NewChaCha8(seed), int64(n)))
	return err
}

// sum prints how many bytes came on stdin, and their SHA-256.
func sum([]string) error {
	h := sha256.New()
	n, err := io.Copy(h, os.Stdin)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%d %x\n", n, h.Sum(nil))
	return err
}

// first N reads N bytes of stdin, prints them and ends, whatever follows.
func first(args []string) error {
	n, err := number(args, 0)
	if err != nil {
		return err
	}
	_, err = io.CopyN(os.Stdout, os.Stdin, int64(n))
	return err
}
