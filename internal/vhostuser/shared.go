//go:build linux

package vhostuser

import (
	"sync/atomic"
	"unsafe"
)

// Words of memory that the guest reads and writes at the same time. Bounds are
// checked as for any slice; the caller sees to the alignment.
//
// Go has no atomic operations on 16 bits. The words that order everything else
// are therefore accessed as the aligned 32 bits that hold them (flags and idx
// of a ring); the two event words are plain 16-bit accesses, ordered by fence.

func load32(b []byte, off int) uint32 {
	_ = b[off+3]
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[off])))
}

func store32(b []byte, off int, v uint32) {
	_ = b[off+3]
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[off])), v)
}

func load16(b []byte, off int) uint16 {
	_ = b[off+1]
	return *(*uint16)(unsafe.Pointer(&b[off]))
}

func store16(b []byte, off int, v uint16) {
	_ = b[off+1]
	*(*uint16)(unsafe.Pointer(&b[off])) = v
}

// aligned reports whether b starts at a multiple of n.
func aligned(b []byte, n uintptr) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%n == 0
}
