//go:build linux

package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
)

// serveEcho ADDR... sends back what comes over TCP and over UDP. When a client
// of TCP has ended its side, it is told "end N SHA256" before the server ends
// its own.
func serveEcho(addrs []string) error {
	if err := listenTCP(addrs, echoStream); err != nil {
		return err
	}
	for _, addr := range addrs {
		pc, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		go echoDatagrams(pc)
	}
	return untilTerminated()
}

func echoStream(conn *net.TCPConn) {
	defer conn.Close()
	h := sha256.New()
	n, err := io.Copy(conn, io.TeeReader(conn, h))
	say("tcp %v: %d bytes, %v", conn.RemoteAddr(), n, err)
	if err == nil {
		fmt.Fprintf(conn, "end %d %x\n", n, h.Sum(nil))
	}
}

func echoDatagrams(pc net.PacketConn) {
	b := make([]byte, 65536)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			fmt.Fprintln(os.Stderr, "world:", err)
			continue // an ICMP error about an answer
		}
		say("udp %v: %d bytes", from, n)
		if _, err := pc.WriteTo(b[:n], from); err != nil {
			fmt.Fprintln(os.Stderr, "world:", err)
		}
	}
}

// serveReset ADDR... resets each connection after the first byte.
func serveReset(addrs []string) error {
	err := listenTCP(addrs, func(conn *net.TCPConn) {
		var b [1]byte
		_, err := io.ReadFull(conn, b[:])
		say("tcp %v: reset after %v", conn.RemoteAddr(), err)
		_ = conn.SetLinger(0)
		conn.Close()
	})
	if err != nil {
		return err
	}
	return untilTerminated()
}
