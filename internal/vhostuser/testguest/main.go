//go:build linux

// Command testguest is PID 1 of the virtual machine that the tests of package
// vhostuser boot: a set of services on vsock ports, driven by the tests.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

// Ports of the guest. What the test serves on the host is in its commands.
const (
	portEcho    = 1000 // sends back what it reads; half-close is carried on
	portSink    = 1001 // reads to the end, then sends how much and whether it is the pattern
	portSource  = 1002 // reads a count (u64) and sends that much of the pattern
	portControl = 1003 // a command a line, an answer a line
	portDrain   = 1004 // as portSink, without a look at the data
	portLater   = 1005 // as portSink, from the next command "release" on
	hostReady   = 1    // dialled when all is up
)

// released lets a connection of portLater begin to read.
var released = make(chan struct{})

func main() {
	log.SetFlags(0)
	log.SetPrefix("testguest: ")
	if err := setUp(); err != nil {
		log.Print(err)
		powerOff()
	}
	for port, serve := range map[uint32]func(*vsock.Conn) error{
		portEcho: echo, portSink: sink, portSource: source, portControl: control, portDrain: drain,
		portLater: func(c *vsock.Conn) error { <-released; return sink(c) },
	} {
		l, err := vsock.ListenContextID(unix.VMADDR_CID_ANY, port, nil)
		if err != nil {
			log.Printf("listen on port %d: %v", port, err)
			powerOff()
		}
		go accept(l, serve)
	}
	ready, err := vsock.Dial(unix.VMADDR_CID_HOST, hostReady, nil)
	if err != nil {
		log.Printf("say ready: %v", err)
		powerOff()
	}
	io.Copy(io.Discard, ready) // until the test ends
	powerOff()
}

// setUp makes the console usable and loads the modules that came along, in
// the order of their names.
func setUp() error {
	os.MkdirAll("/dev", 0o755)
	os.MkdirAll("/proc", 0o755)
	unix.Mount("devtmpfs", "/dev", "devtmpfs", 0, "")
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if console, err := os.OpenFile("/dev/console", os.O_RDWR, 0); err == nil {
		log.SetOutput(console)
	}
	modules, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	slices.Sort(modules)
	for _, path := range modules {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	return nil
}

func powerOff() {
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

func accept(l *vsock.Listener, serve func(*vsock.Conn) error) {
	for {
		c, err := l.Accept()
		if err != nil {
			log.Printf("accept: %v", err)
			return
		}
		go func() {
			defer c.Close()
			if err := serve(c.(*vsock.Conn)); err != nil {
				log.Printf("serve %v: %v", c.LocalAddr(), err)
			}
		}()
	}
}

func echo(c *vsock.Conn) error {
	if _, err := copyAll(c, c); err != nil {
		return err
	}
	return c.CloseWrite()
}

// copyAll is io.Copy with a buffer that is worth a packet.
func copyAll(to io.Writer, from io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 64<<10))
}

func drain(c *vsock.Conn) error {
	n, err := copyAll(io.Discard, c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c, "%d true\n", n)
	return err
}

func sink(c *vsock.Conn) error {
	var p pattern
	n, err := copyAll(&p, c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c, "%d %v\n", n, !p.broken)
	return err
}

func source(c *vsock.Conn) error {
	var count [8]byte
	if _, err := io.ReadFull(c, count[:]); err != nil {
		return err
	}
	return send(c, int64(binary.LittleEndian.Uint64(count[:])))
}

// send writes n bytes of the pattern and ends the direction.
func send(c *vsock.Conn, n int64) error {
	var p pattern
	buf := make([]byte, 256<<10)
	for n > 0 {
		chunk := buf[:min(n, int64(len(buf)))]
		p.fill(chunk)
		if _, err := c.Write(chunk); err != nil {
			return err
		}
		n -= int64(len(chunk))
	}
	return c.CloseWrite()
}

// A pattern is a stream of 64-bit words, each the previous one plus a
// constant: cheap to check where a hash is not.
type pattern struct {
	word    uint64
	partial []byte
	broken  bool
}

const step = 0x9e3779b97f4a7c15

func (p *pattern) fill(b []byte) {
	for len(b) >= 8 {
		p.word += step
		binary.LittleEndian.PutUint64(b, p.word)
		b = b[8:]
	}
	clear(b) // the last bytes of a stream
}

func (p *pattern) Write(b []byte) (int, error) {
	n := len(b)
	if len(p.partial) > 0 {
		k := min(8-len(p.partial), len(b))
		p.partial = append(p.partial, b[:k]...)
		b = b[k:]
		if len(p.partial) < 8 {
			return n, nil
		}
		p.check(p.partial)
		p.partial = p.partial[:0]
	}
	for ; len(b) >= 8; b = b[8:] {
		p.check(b)
	}
	p.partial = append(p.partial, b...)
	return n, nil
}

func (p *pattern) check(b []byte) {
	p.word += step
	if binary.LittleEndian.Uint64(b) != p.word {
		p.broken = true
	}
}

// control does what the test says.
func control(c *vsock.Conn) error {
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		answer, err := command(strings.Fields(lines.Text()))
		if err != nil {
			answer = "error: " + err.Error()
		}
		if _, err := fmt.Fprintln(c, answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func command(words []string) (string, error) {
	if len(words) < 3 {
		return "", fmt.Errorf("command %q", words)
	}
	var port uint32
	var n int64
	if _, err := fmt.Sscan(words[1]+" "+words[2], &port, &n); err != nil {
		return "", err
	}
	start := time.Now()
	var err error
	switch words[0] {
	case "parallel": // n connections at once, each an echo
		err = parallel(port, int(n))
	case "sequence": // n connections one after the other, each an echo
		for range n {
			err = errors.Join(err, dialEcho(port, nil))
		}
	case "flood": // n bytes of the pattern
		err = withConn(port, func(c *vsock.Conn) error {
			if err := send(c, n); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, c)
			return err
		})
	case "drain": // reads n bytes
		err = withConn(port, func(c *vsock.Conn) error {
			got, err := copyAll(io.Discard, c)
			if err == nil && got != n {
				err = fmt.Errorf("read %d bytes, want %d", got, n)
			}
			return err
		})
	case "release": // n connections of portLater
		for range n {
			released <- struct{}{}
		}
	case "pingpong": // n rounds of a byte; answers the median too
		return pingpong(port, int(n))
	default:
		err = fmt.Errorf("command %q", words)
	}
	return fmt.Sprintf("ok %d", time.Since(start).Microseconds()), err
}

func withConn(port uint32, f func(*vsock.Conn) error) error {
	c, err := vsock.Dial(unix.VMADDR_CID_HOST, port, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

// dialEcho sends a message, ends its direction, and checks the answer. It
// waits for all to be connected.
func dialEcho(port uint32, all *sync.WaitGroup) error {
	c, err := vsock.Dial(unix.VMADDR_CID_HOST, port, nil)
	if all != nil {
		all.Done()
		all.Wait()
	}
	if err != nil {
		return err
	}
	defer c.Close()
	msg := fmt.Sprintf("hello from %v", c.LocalAddr())
	if _, err := io.WriteString(c, msg); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && string(got) != msg {
		err = fmt.Errorf("%q came back as %q", msg, got)
	}
	return err
}

func parallel(port uint32, n int) error {
	var all, done sync.WaitGroup
	all.Add(n)
	errs := make([]error, n)
	for i := range n {
		done.Go(func() { errs[i] = dialEcho(port, &all) })
	}
	done.Wait()
	return errors.Join(errs...)
}

func pingpong(port uint32, n int) (string, error) {
	var rounds []time.Duration
	start := time.Now()
	err := withConn(port, func(c *vsock.Conn) error {
		var b [1]byte
		for range n {
			t := time.Now()
			if _, err := c.Write(b[:]); err != nil {
				return err
			}
			if _, err := c.Read(b[:]); err != nil {
				return err
			}
			rounds = append(rounds, time.Since(t))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	slices.Sort(rounds)
	return fmt.Sprintf("ok %d p50 %d p99 %d", time.Since(start).Microseconds(),
		rounds[n/2].Microseconds(), rounds[n*99/100].Microseconds()), nil
}
