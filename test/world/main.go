//go:build linux

// Command world is what the end-to-end tests of the network reach from a
// guest, and what reaches into one: servers of several protocols and clients
// that check what comes back, all in one static program without settings.
//
// A server prints "listening" once all its addresses take requests, then a
// line for each one, so that a script can tell what was asked and what never
// came. SIGTERM ends it with exit code 0.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

// commands are world's subcommands.
var commands = map[string]func(args []string) error{
	"http":      serveHTTP,
	"echo":      serveEcho,
	"reset":     serveReset,
	"dns":       serveDNS,
	"socks5":    serveSOCKS5,
	"httpproxy": serveHTTPProxy,
	"datagram":  askDatagram,
	"crowd":     crowd,
	"wireguard": serveWireGuard,
}

func main() {
	if len(os.Args) < 3 || commands[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "world: %q names nothing that it does\n", os.Args)
		os.Exit(99)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "world: %v\n", err)
		os.Exit(98)
	}
}

// say prints a line in one piece: servers answer many at once.
func say(format string, args ...any) {
	lineLock.Lock()
	defer lineLock.Unlock()
	fmt.Printf(format+"\n", args...)
}

var lineLock sync.Mutex

// untilTerminated says that the servers listen and waits for SIGTERM.
func untilTerminated() error {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	say("listening")
	<-end
	return nil
}

// listenTCP gives every connection to one of the addresses to handle.
func listenTCP(addrs []string, handle func(*net.TCPConn)) error {
	for _, addr := range addrs {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					fmt.Fprintf(os.Stderr, "world: %v\n", err)
					return
				}
				go handle(conn.(*net.TCPConn))
			}
		}()
	}
	return nil
}

// option takes -name=VALUE off the front of args.
func option(args []string, name string) (value string, rest []string) {
	if len(args) > 0 {
		if v, ok := strings.CutPrefix(args[0], "-"+name+"="); ok {
			return v, args[1:]
		}
	}
	return "", args
}

var errUsage = errors.New("arguments are missing")
