package tsc

const supported = true

// read is RDTSC behind an LFENCE, so that it is not executed early (Intel SDM
// volume 2, RDTSC).
//
//go:noescape
func read() uint64
