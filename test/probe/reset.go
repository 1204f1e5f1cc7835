//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// watch ADDR prints "listening", sends each connection "hi", reads it to its
// end, and prints how many bytes came and whether that end was one ("eof") or
// a reset ("reset").
func watch(args []string) error {
	return serveEach(args[0], func(conn *net.TCPConn) {
		if _, err := io.WriteString(conn, "hi"); err != nil {
			fmt.Println("write:", err)
			return
		}
		n, err := io.Copy(io.Discard, conn)
		switch {
		case err == nil:
			fmt.Printf("eof after %d bytes\n", n)
		case errors.Is(err, syscall.ECONNRESET):
			fmt.Printf("reset after %d bytes\n", n)
		default:
			fmt.Println("read:", err)
		}
	})
}

// slam ADDR prints "listening", and resets each connection when its first byte
// has come.
func slam(args []string) error {
	return serveEach(args[0], func(conn *net.TCPConn) {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			_ = conn.SetLinger(0)
		}
	})
}

// abort ADDR waits for two bytes of the server and resets the connection.
func abort(args []string) error {
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
		return err
	}
	return conn.(*net.TCPConn).SetLinger(0)
}

// crowd ADDR N has N connections at once, each of which must send back what it
// is sent while all of them are open, and prints how many did.
func crowd(args []string) error {
	n, err := number(args, 1)
	if err != nil {
		return err
	}
	errs := make([]error, n)
	var served, ended sync.WaitGroup
	served.Add(n)
	for i := range n {
		ended.Go(func() {
			conn, err := net.Dial("tcp", args[0])
			if err == nil {
				defer conn.Close()
				if _, err = conn.Write([]byte{byte(i)}); err == nil {
					var b [1]byte
					if _, err = io.ReadFull(conn, b[:]); err == nil && b[0] != byte(i) {
						err = fmt.Errorf("it sends back %d, not %d", b[0], byte(i))
					}
				}
			}
			errs[i] = err
			served.Done()
			served.Wait()
		})
	}
	ended.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("%d at once\n", n)
	return nil
}

func serveEach(addr string, f func(*net.TCPConn)) error {
	ln, err := net.Listen("tcp", addr)
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
			f(conn.(*net.TCPConn))
		}()
	}
}
