//go:build linux

package main

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// held is memory that the machine was asked to hold.
type held struct {
	mu    sync.Mutex
	bytes []byte
}

// Hold gives up what was held and takes other memory.
func (m machine) Hold(bytes int64) error {
	m.held.mu.Lock()
	defer m.held.mu.Unlock()
	if m.held.bytes != nil {
		if err := unix.Munmap(m.held.bytes); err != nil {
			return fmt.Errorf("free memory: %w", err)
		}
		m.held.bytes = nil
	}
	if bytes == 0 {
		return nil
	}
	b, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("take %d bytes of memory: %w", bytes, err)
	}
	m.held.bytes = b
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	return nil
}
