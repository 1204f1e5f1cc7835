//go:build linux

package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// serve ADDR prints "listening". To each connection it sends back what comes,
// and when the peer has ended its side, "end N SHA256" before it ends its own.
func serve(args []string) error {
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			h := sha256.New()
			n, err := io.Copy(conn, io.TeeReader(conn, h))
			if err == nil {
				fmt.Fprintf(conn, "end %d %x\n", n, h.Sum(nil))
			}
		}()
	}
}

// dial ADDR sends stdin, ends its side, and prints what comes back. A server
// that is not there yet is waited for.
func dial(args []string) error {
	var conn net.Conn
	var err error
	for range 600 {
		if conn, err = net.Dial("tcp", args[0]); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, os.Stdin)
		conn.(*net.TCPConn).CloseWrite()
		sent <- err
	}()
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		return err
	}
	return <-sent
}
