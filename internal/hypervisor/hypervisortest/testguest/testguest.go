// Package testguest is what runs in the VMs of the conformance suite: it does
// what the suite asks it over vsock, and says what it sees. It runs as PID 1 of
// a real guest (package testinit) and in the fake driver.
package testguest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The ports of the suite.
const (
	PortControl = 1024 // guest: one Request and one Reply a connection
	PortEcho    = 1025 // guest: sends back what comes until its end
	PortReady   = 1026 // host: a connection says that the guest is up
)

// A Machine is the VM as a guest sees it.
type Machine interface {
	CommandLine() (string, error)
	CPUs() (int, error)
	MemoryMiB() (int, error)
	Disks() (int, error)
	DiskSize(disk int) (int64, error)
	DiskReadOnly(disk int) (bool, error)
	ReadDisk(disk int, b []byte, offset int64) error
	WriteDisk(disk int, b []byte, offset int64) error
	// Print writes to the console.
	Print(text string) error
	// Dial connects to a port of the host.
	Dial(port uint32) (net.Conn, error)
	Listen(port uint32) (net.Listener, error)
	// The rest end the VM, and may return before it has ended.
	PowerOff() error
	Reboot() error
	Panic() error
}

// A Filler is a Machine that can mount an ext4 filesystem, write bytes to a
// file in it, read them back, and unmount it.
type Filler interface {
	Fill(disk int, bytes int64) error
}

// A Journaler is a Machine that can mount an ext4 filesystem and write lines to
// the file "log" in it, each synced (fsync(2)) before it is written to synced
// too, until that fails.
type Journaler interface {
	Journal(disk int, synced io.Writer) error
}

// A Sharer is a Machine that can mount a share, read the file "host" in it,
// write data to the file "guest", and unmount it.
type Sharer interface {
	Share(tag string, data []byte) ([]byte, error)
}

// A Holder is a Machine that can take memory and write to all of it: bytes in
// all, in place of what it held before.
type Holder interface {
	Hold(bytes int64) error
}

// The operations of a [Request].
const (
	OpInfo     = "info"
	OpDisk     = "disk"    // Disk
	OpRead     = "read"    // Disk, Offset, Length
	OpWrite    = "write"   // Disk, Offset, Data
	OpPrint    = "print"   // Text
	OpDial     = "dial"    // Port: echoes there until the host ends, then says how much
	OpFill     = "fill"    // Disk, Length
	OpJournal  = "journal" // Disk, Port: says there what is synced
	OpShare    = "share"   // Text: the tag, Data
	OpHold     = "hold"    // Length
	OpPowerOff = "poweroff"
	OpReboot   = "reboot"
	OpPanic    = "panic"
)

// A Request is what the suite wants.
type Request struct {
	Op     string
	Disk   int
	Offset int64
	Length int64
	Data   []byte
	Text   string
	Port   uint32
}

// A Reply is the answer.
type Reply struct {
	Error       string
	CommandLine string
	CPUs        int
	MemoryMiB   int
	Disks       int
	Size        int64
	ReadOnly    bool
	Data        []byte
	Length      int64
}

// Serve tells the host that the guest is up and does what it asks, until a
// request ends the machine.
func Serve(m Machine) error {
	control, err := m.Listen(PortControl)
	if err != nil {
		return err
	}
	defer control.Close()
	echo, err := m.Listen(PortEcho)
	if err != nil {
		return err
	}
	defer echo.Close()
	go serveEcho(echo)
	ready, err := m.Dial(PortReady)
	if err != nil {
		return fmt.Errorf("tell the host that the guest is up: %w", err)
	}
	defer ready.Close()
	ended := make(chan struct{})
	end := sync.OnceFunc(func() {
		close(ended)
		control.Close()
	})
	for {
		conn, err := control.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		select {
		case <-ended:
			return nil
		default:
		}
		if err != nil {
			return err
		}
		go func() {
			if answer(m, conn) {
				end()
			}
		}()
	}
}

func serveEcho(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			echoBack(conn)
		}()
	}
}

// echoBack sends back what comes until its end, and then ends its own side.
func echoBack(conn net.Conn) (int64, error) {
	n, err := io.Copy(conn, struct{ io.Reader }{conn})
	if err != nil {
		return n, err
	}
	return n, conn.(interface{ CloseWrite() error }).CloseWrite()
}

// answer does one request, and says whether it ended the machine.
func answer(m Machine, conn net.Conn) (ended bool) {
	defer conn.Close()
	var q Request
	if err := json.NewDecoder(conn).Decode(&q); err != nil {
		return false
	}
	var end func() error
	switch q.Op {
	case OpPowerOff:
		end = m.PowerOff
	case OpReboot:
		end = m.Reboot
	case OpPanic:
		end = m.Panic
	}
	if end != nil {
		if err := end(); err != nil {
			json.NewEncoder(conn).Encode(Reply{Error: err.Error()})
			return false
		}
		return true
	}
	r, err := do(m, q)
	if err != nil {
		r.Error = err.Error()
	}
	json.NewEncoder(conn).Encode(r)
	return false
}

func do(m Machine, q Request) (r Reply, err error) {
	switch q.Op {
	case OpInfo:
		var errs [4]error
		r.CommandLine, errs[0] = m.CommandLine()
		r.CPUs, errs[1] = m.CPUs()
		r.MemoryMiB, errs[2] = m.MemoryMiB()
		r.Disks, errs[3] = m.Disks()
		return r, errors.Join(errs[:]...)
	case OpDisk:
		var errs [2]error
		r.Size, errs[0] = m.DiskSize(q.Disk)
		r.ReadOnly, errs[1] = m.DiskReadOnly(q.Disk)
		return r, errors.Join(errs[:]...)
	case OpRead:
		if q.Length < 0 || q.Length > 1<<20 {
			return r, fmt.Errorf("read %d bytes at once: too many", q.Length)
		}
		r.Data = make([]byte, q.Length)
		return r, m.ReadDisk(q.Disk, r.Data, q.Offset)
	case OpWrite:
		return r, m.WriteDisk(q.Disk, q.Data, q.Offset)
	case OpPrint:
		return r, m.Print(q.Text)
	case OpDial:
		conn, err := m.Dial(q.Port)
		if err != nil {
			return r, err
		}
		defer conn.Close()
		r.Length, err = echoBack(conn)
		return r, err
	case OpFill:
		f, ok := m.(Filler)
		if !ok {
			return r, errors.New("this guest mounts nothing")
		}
		return r, f.Fill(q.Disk, q.Length)
	case OpJournal:
		j, ok := m.(Journaler)
		if !ok {
			return r, errors.New("this guest mounts nothing")
		}
		conn, err := m.Dial(q.Port)
		if err != nil {
			return r, err
		}
		defer conn.Close()
		return r, j.Journal(q.Disk, conn)
	case OpHold:
		h, ok := m.(Holder)
		if !ok {
			return r, errors.New("this guest holds no memory")
		}
		return r, h.Hold(q.Length)
	case OpShare:
		s, ok := m.(Sharer)
		if !ok {
			return r, errors.New("this guest mounts nothing")
		}
		r.Data, err = s.Share(q.Text, q.Data)
		return r, err
	}
	return r, fmt.Errorf("there is no operation %q", q.Op)
}
