//go:build linux

// Command storm starts an app again and again, or many times at once, and ends it
// in ways that leave nobody time to clean up. Scripts say afterwards whether
// anything is left.
//
//	storm kill N APP      N times: starts APP and kills it with SIGKILL, in turn in
//	                      each phase of a start and of a run
//	storm many N APP      N instances of APP at once: starts, lists and stops them
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "storm: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: storm kill|many N APP")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a number of times", args[1])
	}
	switch args[0] {
	case "kill":
		return kill(n, args[2])
	case "many":
		return many(n, args[2])
	}
	return fmt.Errorf("there is no storm called %q", args[0])
}
