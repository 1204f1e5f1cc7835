//go:build linux

// Package reaper starts processes and collects every process that ends,
// whoever started it: the duty of PID 1, of a guest and of a container alike.
//
// A process that waits for its own children one by one leaves adopted orphans
// as zombies; one that waits for any child steals the results of those that
// somebody waits for. So one [Reaper] does all the waiting in its process. A
// program that has one must start children by it alone, and not by os/exec.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// keep is how many results of processes that nobody asked for yet are held
// for [Reaper.Adopt].
const keep = 256

// A Reaper waits for all children of this process.
type Reaper struct {
	mu      sync.Mutex
	waiting map[int]*Child
	ended   map[int]unix.WaitStatus
	order   []int // the keys of ended, oldest first

	signals chan os.Signal
	stop    chan struct{}
	stopped chan struct{}
}

// A Child is one process that a Reaper waits for.
type Child struct {
	// PID is the process's number as this process sees it.
	PID int

	reaper *Reaper
	done   chan struct{}
	status unix.WaitStatus // valid once done is closed
}

// New starts waiting. Orphans come to this process if it is the PID 1 of its
// PID namespace or a child subreaper, see prctl(2). Stop ends it.
func New() *Reaper {
	r := &Reaper{
		waiting: make(map[int]*Child),
		ended:   make(map[int]unix.WaitStatus),
		signals: make(chan os.Signal, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	signal.Notify(r.signals, unix.SIGCHLD)
	go r.loop()
	return r
}

// Stop ends the waiting; children that end later stay zombies.
func (r *Reaper) Stop() {
	signal.Stop(r.signals)
	close(r.stop)
	<-r.stopped
}

func (r *Reaper) loop() {
	defer close(r.stopped)
	for {
		r.reap()
		select {
		case <-r.signals:
		case <-r.stop:
			return
		}
	}
}

// reap collects everything that has ended. It holds the lock all the time, so
// that a child that ends at once is found in waiting, and so that a number is
// never signalled after the kernel was allowed to use it again.
func (r *Reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c, ok := r.waiting[pid]; ok {
			delete(r.waiting, pid)
			c.end(status)
			continue
		}
		r.remember(pid, status)
	}
}

func (r *Reaper) remember(pid int, status unix.WaitStatus) {
	if _, again := r.ended[pid]; !again {
		r.order = append(r.order, pid)
	}
	r.ended[pid] = status
	if len(r.order) > keep {
		delete(r.ended, r.order[0])
		r.order = r.order[1:]
	}
}

// Start runs a program as os.StartProcess does.
func (r *Reaper) Start(path string, argv []string, attr *os.ProcAttr) (*Child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := os.StartProcess(path, argv, attr)
	if err != nil {
		return nil, err
	}
	c := r.child(p.Pid)
	p.Release() //nolint:errcheck // forgets the handle; it cannot fail for a started process
	return c, nil
}

func (r *Reaper) child(pid int) *Child {
	c := &Child{PID: pid, reaper: r, done: make(chan struct{})}
	r.waiting[pid] = c
	return c
}

// Adopt waits for a child that another process started and left to this one.
// It may have ended already.
func (r *Reaper) Adopt(pid int) *Child {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.waiting[pid]; ok {
		return c
	}
	status, ok := r.ended[pid]
	if !ok {
		return r.child(pid)
	}
	delete(r.ended, pid)
	for i, p := range r.order {
		if p == pid {
			r.order = append(r.order[:i], r.order[i+1:]...)
			break
		}
	}
	c := &Child{PID: pid, reaper: r, done: make(chan struct{})}
	c.end(status)
	return c
}

func (c *Child) end(status unix.WaitStatus) {
	c.status = status
	close(c.done)
}

// Done is closed when the process has ended and Status may be called.
func (c *Child) Done() <-chan struct{} { return c.done }

// Status waits for the end of the process and says how it was.
func (c *Child) Status() unix.WaitStatus {
	<-c.done
	return c.status
}

// Signal sends a signal to the process. It is os.ErrProcessDone if it has
// ended; it never reaches another process that got its number.
func (c *Child) Signal(sig unix.Signal) error { return c.signal(c.PID, sig) }

// SignalGroup is Signal to the process group that the process leads.
func (c *Child) SignalGroup(sig unix.Signal) error { return c.signal(-c.PID, sig) }

func (c *Child) signal(whom int, sig unix.Signal) error {
	c.reaper.mu.Lock()
	defer c.reaper.mu.Unlock()
	select {
	case <-c.done:
		return os.ErrProcessDone
	default:
	}
	if err := unix.Kill(whom, sig); err != nil {
		return fmt.Errorf("send signal %d to process %d: %w", int(sig), c.PID, err)
	}
	return nil
}
