//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// killSelf NAME sends itself the signal and does not return.
func killSelf(args []string) error {
	sig := unix.SignalNum(args[0])
	if sig == 0 {
		return fmt.Errorf("there is no signal %q", args[0])
	}
	signal.Reset(sig)
	// The Go runtime keeps handlers for signals such as SIGSEGV, which would
	// end the process with exit code 2.
	if err := defaultAction(sig); err != nil {
		return err
	}
	unix.Kill(os.Getpid(), sig)
	time.Sleep(time.Minute)
	return fmt.Errorf("%s did not end the process", args[0])
}

// signals [CODE] prints "ready", then the name of each signal that comes. The
// first one ends it with CODE; without CODE none does.
func signals(args []string) error {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.Signal(37))
	fmt.Println("ready")
	for s := range c {
		name := unix.SignalName(s.(unix.Signal))
		if name == "" {
			name = fmt.Sprintf("signal %d", s)
		}
		fmt.Println("got", name)
		if len(args) > 0 {
			return exit(args)
		}
	}
	return nil
}

// winsize prints the terminal's size, and again whenever it changes, until a
// line is typed.
func winsize([]string) error {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGWINCH)
	line := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		close(line)
	}()
	for {
		cols, rows, err := term.GetSize(0)
		if err != nil {
			return err
		}
		fmt.Printf("size %dx%d\n", rows, cols)
		select {
		case <-c:
		case <-line:
			return nil
		}
	}
}

// raw puts its terminal into raw mode, prints each byte that comes as a
// number, and ends at a q.
func raw([]string) error {
	state, err := term.MakeRaw(0)
	if err != nil {
		return err
	}
	defer term.Restore(0, state)
	fmt.Print("raw\r\n")
	b := make([]byte, 1)
	for {
		if _, err := os.Stdin.Read(b); err != nil {
			return err
		}
		fmt.Printf("byte %d\r\n", b[0])
		if b[0] == 'q' {
			return nil
		}
	}
}

// hang prints "ready" and ignores every signal that can be ignored.
func hang([]string) error {
	signal.Ignore()
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour)
	}
}

// alloc takes memory until something ends it.
func alloc([]string) error {
	fmt.Println("ready")
	var all [][]byte
	for {
		block := make([]byte, 4<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		all = append(all, block)
		if len(all) > 1<<20 {
			return fmt.Errorf("this machine has no end of memory")
		}
	}
}

// child ARGV... starts a process that outlives this one and holds its streams.
func child(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err := fmt.Println("started", strings.Join(args, " "))
	return err
}
