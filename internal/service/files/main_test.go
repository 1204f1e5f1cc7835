//go:build linux

package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/service/files/filestest"
	"bake/internal/wire"
)

// TestMain is the file server too, with a protocol by which a test asks it what
// it can do, and a parent of one that can be killed.
func TestMain(m *testing.M) {
	if IsRole(os.Args) {
		os.Exit(run(os.Args, protocols{serve9P: serveProbe, serveFUSE: serveFUSEProbe}))
	}
	if dir := os.Getenv("FILES_TEST_PARENT"); dir != "" {
		os.Exit(parent(dir))
	}
	code := m.Run()
	program.Remove()
	os.Exit(code)
}

var program filestest.Program

// A probe is one thing for the process to try, and the answer is the errno.
type probe struct {
	Op    string // a key of probes
	Path  string
	Flags int
}

type answer struct {
	Errno unix.Errno
	Text  string
}

// serveProbe does what it is asked on every thread that there is and then some:
// Landlock is a thread's.
func serveProbe(_ context.Context, conn net.Conn, s *share) error {
	for {
		var p probe
		if err := wire.ReadJSON(conn, &p, 1<<16); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		const threads = 8
		answers := make(chan answer, threads)
		var all, ready sync.WaitGroup
		ready.Add(threads)
		for range threads {
			all.Go(func() {
				runtime.LockOSThread() // and never unlocked: it is a new one each
				ready.Done()
				ready.Wait()
				answers <- try(p, s)
			})
		}
		all.Wait()
		first := <-answers
		for range threads - 1 {
			if a := <-answers; a != first {
				first.Text = fmt.Sprintf("the threads disagree: %+v", a)
			}
		}
		if err := wire.WriteJSON(conn, first, 1<<16); err != nil {
			return err
		}
	}
}

func try(p probe, s *share) (a answer) {
	var err error
	root := int(s.root.Fd())
	switch p.Op {
	case "open": // a path of the host
		err = opened(unix.Open(p.Path, p.Flags|unix.O_CLOEXEC, 0o600))
	case "openat": // in the volume, whatever the path says
		err = opened(unix.Openat(root, p.Path, p.Flags|unix.O_CLOEXEC, 0o600))
	case "mknod":
		err = unix.Mknodat(root, p.Path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
	case "connect":
		fd, serr := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if serr != nil {
			err = serr
			break
		}
		defer unix.Close(fd)
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}})
	case "kill":
		err = unix.Kill(os.Getppid(), 0)
	case "state":
		var st struct {
			Env        []string
			Dir        string
			NoNewPrivs int
			Core       uint64
			Death      int
			Caps       uint64
		}
		st.Env = os.Environ()
		st.Dir, err = os.Getwd()
		st.NoNewPrivs, _ = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		var l unix.Rlimit
		unix.Getrlimit(unix.RLIMIT_CORE, &l)
		st.Core = l.Max
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		unix.Capget(&hdr, &data[0])
		st.Caps = uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32
		text, _ := json.Marshal(st)
		a.Text = string(text)
	default:
		err = unix.ENOSYS
	}
	errors.As(err, &a.Errno)
	return a
}

func opened(fd int, err error) error {
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// serveFUSEProbe echoes one byte.
func serveFUSEProbe(_ context.Context, s *share) error {
	var b [1]byte
	if _, err := io.ReadFull(s.socket, b[:]); err != nil {
		return err
	}
	_, err := s.socket.Write(b[:])
	return err
}
