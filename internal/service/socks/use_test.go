package socks

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// A usage is what the process holds.
type usage struct{ goroutines, files int }

func use(t testing.TB) usage {
	t.Helper()
	files, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return usage{runtime.NumGoroutine(), len(files)}
}

// isLeft waits until the process holds no more than it did.
func (before usage) isLeft(t testing.TB) {
	t.Helper()
	var now usage
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if now = use(t); now.goroutines <= before.goroutines && now.files <= before.files {
			return
		}
	}
	t.Errorf("%+v are left of %+v before", now, before)
}
