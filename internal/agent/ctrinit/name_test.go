//go:build linux

package ctrinit

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

// The process has the name, whichever thread gives it.
func TestNameProcess(t *testing.T) {
	const comm = "/proc/self/comm"
	before, err := os.ReadFile(comm)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(comm, before, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and a new thread for everyone else
		nameProcess("bake-init")
	}()
	<-done
	after, err := os.ReadFile(comm)
	if err != nil || strings.TrimSpace(string(after)) != "bake-init" {
		t.Errorf("the process is called %q, %v", after, err)
	}
}
