//go:build linux

package vhostuser

// fence orders every load and store before it against every one after it, as
// seen by the guest. Go's own read-modify-write operations are LDADDAL and the
// like there, which order less than that (ARM ARM, B2.3); this is DMB ISH,
// what smp_mb() is in Linux.
//
//go:noescape
func fence()
