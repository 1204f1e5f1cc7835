//go:build linux

// Command testguest is PID 1 of the virtual machine that the tests of package
// socks boot: it connects through the host's port 10, as the agent does, and
// says what it sees.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"bake/internal/agent/link"
	"bake/internal/relay"
	"bake/internal/socks5"
	"bake/internal/wire"
)

// PortOrders is where the test connects: an order and its answer in JSON, on
// one connection.
const portOrders = 1000

// An order is what the test wants.
type order struct {
	Do    string // see run
	To    netip.AddrPort
	Count int
}

// An answer is what happened.
type answer struct {
	Error      string // in general
	Refused    int    // errno of a connection that did not come about
	End        string // EOF, reset, or something unexpected
	Bytes      int
	Goroutines int
	Files      int
}

func main() {
	for dir, kind := range map[string]string{"/dev": "devtmpfs", "/proc": "proc"} {
		_ = os.MkdirAll(dir, 0o755)
		_ = unix.Mount(kind, dir, kind, 0, "")
	}
	l, err := vsock.ListenContextID(unix.VMADDR_CID_ANY, portOrders, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testguest:", err)
		os.Exit(1) // a kernel panic, which ends the machine
	}
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			defer c.Close()
			var o order
			if err := json.NewDecoder(c).Decode(&o); err != nil {
				return
			}
			a := run(o)
			files, _ := os.ReadDir("/proc/self/fd")
			a.Goroutines, a.Files = runtime.NumGoroutine(), len(files)
			_ = json.NewEncoder(c).Encode(a)
		}()
	}
}

func run(o order) answer {
	if o.Do == "use" {
		return answer{}
	}
	if o.Do == "parallel" || o.Do == "sequence" {
		return many(o)
	}
	if o.Do == "plain" { // "read" without frames
		return plain(o.To)
	}
	s, err := dial(o.To)
	if err != nil {
		return failed(err)
	}
	defer s.Close()
	switch o.Do {
	case "echo": // sends, ends, reads to the end
		return echo(s, o.Count)
	case "read": // says a word, then reads to the end
		_, _ = io.WriteString(s, "x")
		return read(s)
	case "end, read": // ends its own direction first
		_ = s.CloseWrite()
		return read(s)
	case "read, reset": // reads to the end, then goes away
		a := read(s)
		s.Close()
		return a
	case "reset": // says a word and goes away
		_, _ = io.WriteString(s, "x")
		return answer{}
	}
	return answer{Error: "there is no order " + o.Do}
}

// dial is the way of the agent.
func dial(to netip.AddrPort) (*relay.Stream, error) {
	c, err := link.Dial(context.Background(), wire.PortSOCKS)
	if err != nil {
		return nil, err
	}
	return socks5.ConnectStream(context.Background(), c, socks5.Address{AddrPort: to})
}

// plain reads to the end of a connection of which only the kernel can say how
// it ended.
func plain(to netip.AddrPort) answer {
	c, err := link.Dial(context.Background(), wire.PortSOCKS)
	if err != nil {
		return failed(err)
	}
	defer c.Close()
	if err := socks5.Connect(context.Background(), c, socks5.Address{AddrPort: to}); err != nil {
		return failed(err)
	}
	_, _ = io.WriteString(c, "x")
	return read(c)
}

func failed(err error) answer {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return answer{Refused: int(errno)}
	}
	return answer{Error: err.Error()}
}

func echo(s net.Conn, n int) answer {
	data := bytes.Repeat([]byte("0123456789abcdef"), n/16)
	go func() {
		_, _ = s.Write(data)
		_ = s.(*relay.Stream).CloseWrite()
	}()
	got, err := io.ReadAll(s)
	a := ended(len(got), err)
	if !bytes.Equal(got, data) {
		a.Error = "what comes back is not what was sent"
	}
	return a
}

func read(s net.Conn) answer {
	n, err := io.Copy(io.Discard, s)
	return ended(int(n), err)
}

func ended(n int, err error) answer {
	a := answer{Bytes: n, End: "EOF"}
	if errors.Is(err, syscall.ECONNRESET) {
		a.End = "reset"
	} else if err != nil {
		a.End = err.Error()
	}
	return a
}

// many makes connections, each an echo, all at once or one by one.
func many(o order) answer {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all answer
	one := func() {
		a := run(order{Do: "echo", To: o.To, Count: 64})
		if a.Error != "" || a.End != "EOF" {
			mu.Lock()
			all = a
			mu.Unlock()
		}
	}
	for range o.Count {
		if o.Do == "parallel" {
			wg.Go(one)
		} else {
			one()
		}
	}
	wg.Wait()
	return all
}
