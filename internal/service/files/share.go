package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"bake/internal/service/files/tree"
	"bake/internal/wire"
)

const (
	// maxConnections is how many connections a volume may have at a time: the
	// mount has one, and a guest that mounts again may come before the old one
	// has ended.
	maxConnections = 4
	// helloTime bounds how long a connection may take to name its volume.
	helloTime = 30 * time.Second
	// maxNameless bounds the connections that have not named a volume.
	maxNameless = 16
	// maxNodes and maxHandles bound what a guest can make a volume hold, in
	// descriptors; a system that allows fewer divides what it has.
	maxNodes   = 1 << 18
	maxHandles = 1 << 15
	// minNodes is served even where it cannot be had all at once.
	minNodes = 256
	// ownDescriptors are those of the process itself.
	ownDescriptors = 128
)

// A share is a volume as the process has it.
type share struct {
	describedShare
	root   *os.File
	socket *os.File // nil for 9P
	// nodes and handles are the volume's limits.
	nodes, handles int
	tree           *tree.Tree
	open           atomic.Int32 // connections
	log            func(format string, args ...any)
}

// protocols are what is spoken on the connections. They return when it is over,
// which they are to bring about when ctx ends.
type protocols struct {
	serve9P   func(ctx context.Context, conn net.Conn, s *share) error
	serveFUSE func(ctx context.Context, s *share) error
}

// A server serves shares.
type server struct {
	protocols
	say         *reporter
	shares      map[string]*share
	nameless    atomic.Int32
	connections sync.WaitGroup
}

// open takes the inherited descriptors and begins what needs no connection.
func (s *server) open(ctx context.Context, d *description) error {
	s.shares = map[string]*share{}
	limit := raiseLimits()
	for i, v := range d.Volumes {
		sh := &share{describedShare: v, root: os.NewFile(uintptr(fdVolumes+i), v.Path), log: s.say.log}
		sh.nodes, sh.handles = limits(limit, len(d.Volumes))
		if v.Socket != 0 {
			sh.socket = os.NewFile(uintptr(v.Socket), "vhost-user")
		}
		if s.shares[v.ID] != nil {
			return fmt.Errorf("there are two volumes %q", v.ID)
		}
		s.shares[v.ID] = sh
		var err error
		if sh.tree, err = tree.Open(sh.root, sh.options(os.Geteuid())); err != nil {
			return fmt.Errorf("serve %s: %w", v.Path, err)
		}
	}
	for _, sh := range s.shares {
		if sh.socket != nil {
			s.connections.Go(func() {
				if err := s.serveFUSE(ctx, sh); err != nil && ctx.Err() == nil {
					s.say.log("the volume %s: %v", sh.Path, err)
				}
			})
		}
		if sh.Notify {
			if err := s.notify(ctx, sh); err != nil {
				return fmt.Errorf("watch %s for changes: %w", sh.Path, err)
			}
		}
	}
	return nil
}

// options are the tree's, served by a process of user uid.
func (sh *share) options(uid int) tree.Options {
	return tree.Options{
		ReadOnly: sh.ReadOnly, File: sh.File, UID: sh.UID, GID: sh.GID,
		Squash: uid != 0, MaxNodes: sh.nodes, MaxHandles: sh.handles,
	}
}

// limits divides the descriptors that the process may have among volumes.
func limits(descriptors uint64, volumes int) (nodes, handles int) {
	each := (descriptors - min(descriptors, ownDescriptors)) / uint64(max(volumes, 1))
	handles = int(min(each/4, maxHandles))
	nodes = int(min(each-uint64(handles), maxNodes))
	return max(nodes, minNodes), max(handles, minNodes/4)
}

// wait waits for all connections to end.
func (s *server) wait() {
	s.connections.Wait()
	for _, sh := range s.shares {
		sh.tree.Close()
	}
}

// connection serves one connection of port 12.
func (s *server) connection(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if s.nameless.Add(1) > maxNameless {
		s.nameless.Add(-1)
		return
	}
	sh, err := s.hello(conn)
	s.nameless.Add(-1)
	if err != nil {
		if !errors.Is(err, io.EOF) && ctx.Err() == nil {
			s.say.log("a connection of the guest: %v", err)
		}
		return
	}
	defer sh.open.Add(-1)
	if err := s.serve9P(ctx, conn, sh); err != nil && ctx.Err() == nil {
		s.say.log("the volume %s: %v", sh.Path, err)
	}
}

// hello reads which volume a connection is for and answers. The volume has one
// connection more then.
func (s *server) hello(conn net.Conn) (*share, error) {
	if err := conn.SetDeadline(time.Now().Add(helloTime)); err != nil {
		return nil, err
	}
	id, err := wire.ReadVolumeHello(conn)
	if err != nil {
		return nil, err
	}
	sh, refusal := s.find(id)
	answer := ""
	if refusal != nil {
		answer = refusal.Error()
	}
	err = wire.WriteVolumeAnswer(conn, answer)
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if sh != nil && err != nil {
		sh.open.Add(-1)
	}
	if err := errors.Join(refusal, err); err != nil {
		return nil, err
	}
	return sh, nil
}

// find returns the volume, counted, or why not.
func (s *server) find(id string) (*share, error) {
	sh := s.shares[id]
	switch {
	case sh == nil:
		return nil, fmt.Errorf("the host shares no volume %q", id)
	case sh.socket != nil:
		return nil, fmt.Errorf("the volume %q is shared by virtiofs and not by 9P", id)
	case sh.open.Add(1) > maxConnections:
		sh.open.Add(-1)
		return nil, fmt.Errorf("the volume %q has %d connections already, which is as many as it may have", id, maxConnections)
	}
	return sh, nil
}
