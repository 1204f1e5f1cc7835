//go:build linux

package vhostuser

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// contain makes an error of what a deferred function recovered. The guest's
// memory is a file: if it is cut short, touching it is SIGBUS, a panic where
// debug.SetPanicOnFault is set. A fault of this package, or of who handles
// requests, costs one machine its device, not the process its life.
func contain(recovered any, err *error) {
	switch fault := recovered.(type) {
	case nil:
	case interface {
		runtime.Error
		Addr() uintptr
	}:
		*err = fmt.Errorf("the guest's memory is not there any more: %w", fault)
	case runtime.Error:
		*err = fmt.Errorf("internal error: %w\n%s", fault, debug.Stack())
	default:
		panic(fault)
	}
}
