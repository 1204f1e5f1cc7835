//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// answerTime bounds the wait for an answer.
const answerTime = 30 * time.Second

// askDatagram ADDR SIZE... sends a datagram of each size to an echo server, from
// one socket, and prints whether the answers are the same.
func askDatagram(args []string) error {
	conn, err := net.Dial("udp", args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, arg := range args[1:] {
		size, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		sent, got := make([]byte, size), make([]byte, 65536)
		if _, err := io.ReadFull(patternOf(), sent); err != nil {
			return err
		}
		n, err := exchange(conn, sent, got)
		if err != nil {
			return fmt.Errorf("%d bytes: %w", size, err)
		}
		if !bytes.Equal(got[:n], sent) {
			return fmt.Errorf("%d bytes came back as %d others", size, n)
		}
		say("%d bytes came back", size)
	}
	return nil
}

// exchange asks again when nothing comes: a datagram may be lost.
func exchange(conn net.Conn, sent, got []byte) (n int, err error) {
	const tries = 10
	for range tries {
		if err := conn.SetDeadline(time.Now().Add(answerTime / tries)); err != nil {
			return 0, err
		}
		if _, err = conn.Write(sent); err == nil {
			n, err = conn.Read(got)
		}
		if err == nil {
			return n, nil
		}
	}
	return 0, err
}

// crowd ADDR TOTAL PARALLEL makes TOTAL connections to an echo server, PARALLEL
// of them open at any time, has a line sent back on each, and prints how many
// were right.
func crowd(args []string) error {
	if len(args) < 3 {
		return errUsage
	}
	total, err1 := strconv.Atoi(args[1])
	parallel, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	turns := make(chan int)
	errs := make([]error, total)
	// With PARALLEL equal to TOTAL, no connection is closed before all are
	// open.
	var together sync.WaitGroup
	together.Add(parallel)
	var all sync.WaitGroup
	for range parallel {
		all.Go(func() {
			first := true
			for i := range turns {
				errs[i] = line(args[0], func() {
					if first {
						together.Done()
						together.Wait()
						first = false
					}
				})
				if first { // it failed before it could meet the others
					together.Done()
					first = false
				}
			}
			if first {
				together.Done()
			}
		})
	}
	for i := range total {
		turns <- i
	}
	close(turns)
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	say("%d connections were served", total)
	return nil
}

// line has one line sent back, ends its side and waits for the server's end.
func line(addr string, open func()) error {
	c, err := net.DialTimeout("tcp", addr, 2*answerTime)
	if err != nil {
		return err
	}
	conn := c.(*net.TCPConn)
	defer conn.Close()
	open()
	if err := conn.SetDeadline(time.Now().Add(4 * answerTime)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "a line\n"); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	back, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(back, []byte("a line\nend 7 ")) {
		return fmt.Errorf("a line came back as %q", back)
	}
	return nil
}
