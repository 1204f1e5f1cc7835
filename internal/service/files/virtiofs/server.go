//go:build linux

package virtiofs

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"bake/internal/service/files/tree"
	"bake/internal/vhostuser"
)

// A Cache says for how long a guest may believe what it was told.
type Cache string

const (
	// CacheDefault lets the guest keep names and attributes for a moment
	// (defaultTimeout): a change on the host is seen that much later.
	CacheDefault Cache = ""
	// CacheNone keeps nothing: each read asks the host, each write goes there
	// at once, each use of a name looks it up. A file can still be mapped.
	CacheNone Cache = "none"
	// CacheMmap is CacheDefault under the name that it has with 9P.
	CacheMmap Cache = "mmap"
	// CacheLoose keeps names, attributes and contents for long. It is for
	// directories that nobody else changes.
	CacheLoose Cache = "loose"
)

const (
	defaultTimeout = 100 * time.Millisecond
	looseTimeout   = time.Hour
)

// Options of [Serve].
type Options struct {
	Cache Cache
	// Descriptors is how many descriptors are kept of files that the guest
	// remembers but does not use. 0 is half of what the process may have, for
	// a process with one share.
	Descriptors int
	// Logf is told what a person should know, rarely. It may be nil.
	Logf func(format string, args ...any)
}

const (
	// queues is what the device may have: one of high priority, which carries
	// what frees memory, and the others for the guest's processors.
	queues = 1 + 8
	// workers bounds the requests at a time.
	workers = 32
	// maxBackground is how many requests a guest's kernel makes ahead
	// (readahead, asynchronous I/O).
	maxBackground = 64
	// maxWrite is the largest request, in bytes: that of Linux.
	maxWrite = 1 << 20
	// maxNodes bounds the objects that a guest remembers.
	maxNodes = 1 << 20
	// maxComplaints bounds what a guest can have written to the log.
	maxComplaints = 10
	// maxLocks bounds the record locks of a guest.
	maxLocks = 1 << 16
	// maxWaiting bounds the requests that wait for locks; each takes a worker,
	// and those that give locks back need some.
	maxWaiting = workers / 2
)

// Serve serves t to the guest of one virtual machine: socket is one end of a
// pair of connected Unix stream sockets whose other end QEMU has (chardev of
// vhost-user-fs). It takes socket over and closes it; t stays the caller's.
//
// It returns nil when the machine is gone, the context's error when ctx ends,
// and another error when QEMU breaks the protocol. Whatever the guest does, it
// goes on.
func Serve(ctx context.Context, socket *os.File, t *tree.Tree, o Options) error {
	s, err := newServer(t, o)
	if err != nil {
		socket.Close()
		return err
	}
	err = vhostuser.ServeRequests(ctx, socket, vhostuser.RequestConfig{
		Queues:  queues,
		Workers: workers,
		Handle:  s.handle,
		Reset:   s.fs.reset,
		Logf:    o.Logf,
	})
	s.fs.close()
	if err != nil {
		return fmt.Errorf("serve a virtiofs share: %w", err)
	}
	return nil
}

// A server is one guest's.
type server struct {
	fs       *fileSystem
	options  fuse.MountOptions
	protocol atomic.Pointer[fuse.ProtocolServer] // of the last INIT

	complaints atomic.Int32
}

func newServer(t *tree.Tree, o Options) (*server, error) {
	if o.Descriptors <= 0 {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return nil, fmt.Errorf("ask how many files may be open: %w", err)
		}
		o.Descriptors = int(min(limit.Cur/2, maxNodes))
	}
	fs, err := newFileSystem(t, o.Cache, o.Descriptors)
	if err != nil {
		return nil, err
	}
	s := &server{fs: fs}
	s.options = fuse.MountOptions{
		MaxBackground: maxBackground,
		MaxWrite:      maxWrite,
		EnableLocks:   true,
		// The owners in an ACL must mean the same on both sides.
		EnableAcl: t.ShowsOwners(),
		// What it would say is the guest's to choose.
		Logger: log.New(io.Discard, "", 0),
		ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_ASYNC_DIO | fuse.CAP_READDIRPLUS_AUTO |
			fuse.CAP_DONT_MASK | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_DIRECT_IO_ALLOW_MMAP,
		// Looking a file up opens nothing, and opening is what tells the
		// guest to read it anew.
		DisabledCapabilities: fuse.CAP_NO_OPEN_SUPPORT | fuse.CAP_PASSTHROUGH | fuse.CAP_ALLOW_IDMAP,
		PanicHandler: func(fault any) fuse.Status {
			if o.Logf != nil && s.complaints.Add(1) <= maxComplaints {
				o.Logf("a fault of the virtiofs server, and EIO for the guest: %v", fault)
			}
			return fuse.EIO
		},
	}
	if o.Cache == CacheLoose {
		s.options.EnableSymlinkCaching = true
	}
	s.protocol.Store(fuse.NewProtocolServer(fs, &s.options))
	return s, nil
}

// handle handles one request.
func (s *server) handle(ctx context.Context, _ int, in, out [][]byte) int {
	in, head, ok := own(in)
	if !ok {
		return 0 // there is nothing to answer to
	}
	if err := head.check(in); err != 0 {
		return head.answer(out, err)
	}
	out = first(out, maxAnswer)
	s.fs.enter(ctx)
	protocol := s.protocol.Load()
	switch head.opcode {
	case opInit:
		// The guest begins anew. What was negotiated is the new server's, so
		// that no request that is handled sees it change.
		s.fs.reset()
		protocol = fuse.NewProtocolServer(s.fs, &s.options)
		n, _ := protocol.HandleRequest(in, out)
		s.protocol.Store(protocol)
		return n
	case opDestroy:
		s.fs.reset()
	case opSyncfs: // go-fuse does not know it
		return head.answer(out, syscall.Errno(status(s.fs.tree.Sync())))
	}
	n, _ := protocol.HandleRequest(in, out)
	return n
}
