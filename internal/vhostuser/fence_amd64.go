//go:build linux

package vhostuser

import "sync/atomic"

// fence orders every load and store before it against every one after it, as
// seen by the guest. The compiler makes XCHG of this, which is a full barrier
// on amd64 (Intel SDM, volume 3, 9.2.2: locked instructions).
func fence() {
	var word uint32
	fenceOn(&word)
}

//go:noinline
func fenceOn(word *uint32) { atomic.SwapUint32(word, 1) }
