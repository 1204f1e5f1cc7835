//go:build linux

package vhostuser

// minBuffer is the first size of a buffer that holds anything.
const minBuffer = 4 << 10

// A buffer holds what the guest sent and the host's socket did not take: a
// ring of bytes that grows as needed up to bufAlloc and is freed when empty.
type buffer struct {
	b    []byte // len(b) is a power of two, or 0
	head int    // index of the first byte
	n    int    // bytes held
}

func (f *buffer) len() int { return f.n }

// write appends p. The caller has checked that no more than bufAlloc bytes
// come together.
func (f *buffer) write(p []byte) {
	f.grow(f.n + len(p))
	for len(p) > 0 {
		tail := (f.head + f.n) & (len(f.b) - 1)
		end := len(f.b)
		if tail < f.head {
			end = f.head
		}
		k := copy(f.b[tail:end], p)
		f.n += k
		p = p[k:]
	}
}

// bytes returns what is held: the second part is empty unless it wraps.
func (f *buffer) bytes() (first, second []byte) {
	if f.head+f.n <= len(f.b) {
		return f.b[f.head : f.head+f.n], nil
	}
	return f.b[f.head:], f.b[:f.head+f.n-len(f.b)]
}

// discard forgets the first k bytes.
func (f *buffer) discard(k int) {
	f.n -= k
	if f.n == 0 {
		*f = buffer{}
		return
	}
	f.head = (f.head + k) & (len(f.b) - 1)
}

func (f *buffer) grow(need int) {
	if need <= len(f.b) {
		return
	}
	size := max(minBuffer, len(f.b))
	for size < need {
		size *= 2
	}
	b := make([]byte, size)
	first, second := f.bytes()
	copy(b[copy(b, first):], second)
	f.b, f.head = b, 0
}
