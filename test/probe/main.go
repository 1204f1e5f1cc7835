//go:build linux

// Command probe is what the end-to-end tests run in containers, and now and
// then on the host: one static program without a shell or a libc around it,
// that reports what it finds and does what it is told.
package main

import (
	"fmt"
	"os"
	"strconv"
)

// commands are probe's subcommands.
var commands = map[string]func(args []string) error{
	"report":  report,
	"tree":    tree,
	"exit":    exit,
	"kill":    killSelf,
	"signals": signals,
	"winsize": winsize,
	"raw":     raw,
	"hang":    hang,
	"alloc":   alloc,
	"serve":   serve,
	"dial":    dial,
	"watch":   watch,
	"abort":   abort,
	"slam":    slam,
	"crowd":   crowd,
	"pattern": pattern,
	"sum":     sum,
	"first":   first,
	"child":   child,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "probe: %q names nothing that it does\n", os.Args)
		os.Exit(99)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "probe: %v\n", err)
		os.Exit(98)
	}
}

func number(args []string, i int) (int, error) {
	if i >= len(args) {
		return 0, fmt.Errorf("argument %d is missing", i+1)
	}
	return strconv.Atoi(args[i])
}

// exit N ends with that code.
func exit(args []string) error {
	code, err := number(args, 0)
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}
