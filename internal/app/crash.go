package app

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"sync"
)

// tailSize is how much of the kernel's console is kept for the crash report,
// in bytes. A panic with its trace is about 4 KiB.
const tailSize = 32 << 10

// A consoleTail keeps the end of what the guest's kernel wrote and, with
// --verbose, shows it. It is safe for concurrent use.
type consoleTail struct {
	show io.Writer // nil without --verbose

	mu  sync.Mutex
	buf []byte
}

// Write never fails: a console that nobody can see is no reason to stop a VM.
func (t *consoleTail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	t.mu.Unlock()
	if t.show != nil {
		t.show.Write(p)
	}
	return len(p), nil
}

func (t *consoleTail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf)
}

// panicLine is what kernel/panic.c prints.
var panicLine = regexp.MustCompile(`Kernel panic - not syncing: ([^\r\n]*)`)

// outOfMemory is what mm/oom_kill.c and init/initramfs.c print when the kernel
// cannot go on, or cannot begin, for want of memory.
var outOfMemory = regexp.MustCompile(`System is deadlocked on memory|Out of memory and no killable processes|Initramfs unpacking failed: (?:write error|junk within compressed archive|uncompression error)|compressed RAM disk requires too much memory|failed to allocate .* bytes`)

// crash explains a guest that ended without a word, from its console: reason
// is a clause, and empty when the console tells nothing.
func crash(console []byte) (reason string, memory bool) {
	if m := panicLine.FindSubmatch(console); m != nil {
		reason = "the guest's kernel panicked: " + strings.TrimSpace(printable(m[1]))
	}
	return reason, outOfMemory.Match(console)
}

// printable keeps a hostile guest from writing control sequences to the user's
// terminal through an error message.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, string(b))
}
