//go:build linux

package main

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
)

// serveSOCKS5 [-login=USER:PASSWORD] ADDR... is a SOCKS5 proxy (RFC 1928, RFC
// 1929) for CONNECT.
func serveSOCKS5(args []string) error {
	login, addrs := option(args, "login")
	err := listenTCP(addrs, func(conn *net.TCPConn) {
		defer conn.Close()
		if err := socks5(conn, login); err != nil {
			say("failed: %v", err)
		}
	})
	if err != nil {
		return err
	}
	return untilTerminated()
}

func socks5(conn *net.TCPConn, login string) error {
	r := bufio.NewReader(conn)
	if err := greet(r, conn, login); err != nil {
		return err
	}
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	var host string
	switch head[3] {
	case 1, 4:
		ip := make([]byte, map[byte]int{1: 4, 4: 16}[head[3]])
		if _, err := io.ReadFull(r, ip); err != nil {
			return err
		}
		addr, _ := netip.AddrFromSlice(ip)
		host = addr.String()
	case 3:
		name, err := short(r)
		if err != nil {
			return err
		}
		host = name
	default:
		return fmt.Errorf("address type %d", head[3])
	}
	var port [2]byte
	if _, err := io.ReadFull(r, port[:]); err != nil {
		return err
	}
	to := net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port[:]))))
	say("CONNECT %s", to)
	out, err := net.Dial("tcp", to)
	if err != nil {
		_, _ = conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return err
	}
	if _, err := conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return err
	}
	join(r, conn, out.(*net.TCPConn))
	return nil
}

// greet agrees on a method: the login where there is one.
func greet(r *bufio.Reader, w io.Writer, login string) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(r, methods); err != nil {
		return err
	}
	if login == "" {
		_, err := w.Write([]byte{5, 0})
		return err
	}
	if _, err := w.Write([]byte{5, 2}); err != nil {
		return err
	}
	if _, err := r.ReadByte(); err != nil {
		return err
	}
	user, err1 := short(r)
	password, err2 := short(r)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if user+":"+password != login {
		_, _ = w.Write([]byte{1, 1})
		return fmt.Errorf("the login %s:%s is wrong", user, password)
	}
	_, err := w.Write([]byte{1, 0})
	return err
}

// short reads a string after its length in one byte.
func short(r *bufio.Reader) (string, error) {
	n, err := r.ReadByte()
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

// join carries both directions, with the end of each.
func join(r io.Reader, a, b *net.TCPConn) {
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(a, b) // who talks through the proxy tells
		_ = a.CloseWrite()
	}()
	_, _ = io.Copy(b, r)
	_ = b.CloseWrite()
	<-done
}

// serveHTTPProxy [-login=USER:PASSWORD] ADDR... is an HTTP proxy for CONNECT (RFC
// 9110 section 9.3.6) and nothing else.
func serveHTTPProxy(args []string) error {
	login, addrs := option(args, "login")
	err := listenTCP(addrs, func(conn *net.TCPConn) {
		defer conn.Close()
		if err := httpProxy(conn, login); err != nil {
			say("failed: %v", err)
		}
	})
	if err != nil {
		return err
	}
	return untilTerminated()
}

func httpProxy(conn *net.TCPConn, login string) error {
	r := bufio.NewReader(conn)
	req, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	say("%s %s", req.Method, req.Host)
	if req.Method != http.MethodConnect {
		_, err := io.WriteString(conn, "HTTP/1.1 405 Method Not Allowed\r\n\r\n")
		return err
	}
	if login != "" && req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(login)) {
		_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"world\"\r\n\r\n")
		return errors.New("the login is wrong or missing")
	}
	out, err := net.Dial("tcp", req.Host)
	if err != nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return err
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return err
	}
	join(r, conn, out.(*net.TCPConn))
	return nil
}
