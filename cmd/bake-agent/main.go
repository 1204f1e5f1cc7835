//go:build linux

// Nothing limits the number of processors in either role, and looking for a
// limit in cgroups and again every second is time that a start takes longer.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command bake-agent is PID 1 of a bake guest, /init of its initrd. The same
// executable is the first process of the container in it.
package main

import (
	"fmt"
	"os"

	"bake/internal/agent"
	"bake/internal/agent/ctrinit"
	"bake/internal/agent/transfer"
)

// version is set by the linker.
var version = "devel"

func main() {
	if len(os.Args) > 0 && os.Args[0] == ctrinit.Executable {
		os.Exit(ctrinit.Main(transfer.Main))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "bake-agent: this is PID 1 of a bake guest and runs nowhere else")
		os.Exit(125)
	}
	agent.Run(version)
}
