//go:build linux

package vhostuser

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// requestTest is a ServeRequests that runs, with a driver.
type requestTest struct {
	*driver
	served chan error
	end    context.CancelFunc
}

func serveRequests(t *testing.T, cfg RequestConfig) *requestTest {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	rt := &requestTest{served: make(chan error, 1), end: cancel}
	cfg.Queues = numRings
	go func() { rt.served <- ServeRequests(ctx, os.NewFile(uintptr(fds[1]), "front"), cfg) }()
	front := &frontEnd{t: t, fd: fds[0]}
	rt.driver = newDriver(t, front, driverOptions{noProtocol: true})
	t.Cleanup(func() {
		front.close()
		cancel()
		rt.wait()
	})
	return rt
}

// wait waits for the end of ServeRequests.
func (rt *requestTest) wait() error {
	err, more := <-rt.served
	if more {
		close(rt.served)
	}
	return err
}

// Places of the buffers of request i.
func (rt *requestTest) in(i int) int  { return buffers + i*0x2000 }
func (rt *requestTest) out(i int) int { return buffers + i*0x2000 + 0x1000 }

// post makes request i available in a queue, with room bytes for its answer.
func (rt *requestTest) post(queue, i int, text string, room int) {
	r := rt.ring[queue]
	copy(rt.mem[rt.in(i):], text)
	head := uint16(2 * i)
	rt.desc(r.descAt(), int(head), guestBase+uint64(rt.in(i)), uint32(len(text)), descNext, head+1)
	if room == 0 {
		rt.desc(r.descAt(), int(head), guestBase+uint64(rt.in(i)), uint32(len(text)), 0, 0)
	}
	rt.desc(r.descAt(), int(head+1), guestBase+uint64(rt.out(i)), uint32(room), descWrite, 0)
	r.offer(head)
}

// answer waits for some request of a queue to be given back.
func (rt *requestTest) answer(queue int) (i int, text string) {
	rt.t.Helper()
	r := rt.ring[queue]
	for range 600 {
		if head, n, ok := r.take(); ok {
			return int(head / 2), string(rt.mem[rt.out(int(head/2)):][:n])
		}
		rt.driver.wait(100*time.Millisecond, r)
	}
	rt.t.Fatal("the device does not give a request back")
	return 0, ""
}

// upper answers with what was asked, in capitals, as far as there is room.
func upper(_ context.Context, _ int, in, out [][]byte) int {
	text := bytes.ToUpper(bytes.Join(in, nil))
	n := 0
	for _, o := range out {
		k := copy(o, text)
		text = text[k:]
		n += k
	}
	return n
}

func TestRequests(t *testing.T) {
	rt := serveRequests(t, RequestConfig{Handle: upper, Logf: t.Logf})
	for round := range 300 { // more than the rings hold
		queue := round % numRings
		rt.post(queue, round%60, "hello", 100)
		if i, text := rt.answer(queue); i != round%60 || text != "HELLO" {
			t.Fatalf("request %d is answered %q", i, text)
		}
	}
	rt.post(0, 0, "no answer", 0)
	if _, text := rt.answer(0); text != "" {
		t.Errorf("answered %q without room", text)
	}
	rt.front.close()
	if err := rt.wait(); err != nil {
		t.Errorf("after the front end hung up: %v", err)
	}
}

// A request that waits holds up no other, in either queue, up to the limit.
func TestRequestsAtATime(t *testing.T) {
	const workers = 8
	var inside atomic.Int32
	release := make(chan struct{})
	entered := make(chan struct{}, 100)
	rt := serveRequests(t, RequestConfig{Workers: workers, Handle: func(ctx context.Context, q int, in, out [][]byte) int {
		if inside.Add(1) > workers {
			t.Error("more requests at a time than workers")
		}
		defer inside.Add(-1)
		if string(bytes.Join(in, nil)) == "wait" {
			entered <- struct{}{}
			<-release
		}
		return upper(ctx, q, in, out)
	}})
	for i := range workers - 1 {
		rt.post(0, i, "wait", 10)
		<-entered
	}
	for range 20 {
		for queue := range numRings {
			rt.post(queue, 20, "go", 10)
			if i, text := rt.answer(queue); i != 20 || text != "GO" {
				t.Fatalf("request %d is answered %q", i, text)
			}
		}
	}
	// Those that come together are all handled, though nobody is notified.
	for i := 20; i < 60; i++ {
		rt.post(0, i, "go", 10)
	}
	for range 40 {
		rt.answer(0)
	}
	close(release)
	for range workers - 1 {
		if _, text := rt.answer(0); text != "WAIT" {
			t.Errorf("answered %q", text)
		}
	}
}

// A driver that leaves the device waits for what is handled, whose context
// ends; and finds the device as new.
func TestRequestsReset(t *testing.T) {
	var resets atomic.Int32
	entered := make(chan struct{}, 1)
	rt := serveRequests(t, RequestConfig{
		Handle: func(ctx context.Context, q int, in, out [][]byte) int {
			if string(bytes.Join(in, nil)) == "wait" {
				entered <- struct{}{}
				<-ctx.Done()
			}
			return upper(ctx, q, in, out)
		},
		Reset: func() { resets.Add(1) },
	})
	rt.post(1, 0, "wait", 10)
	<-entered
	if base := rt.stopRing(1); base != 1 {
		t.Errorf("the ring stops at %d", base)
	}
	if _, text := rt.answer(1); text != "WAIT" {
		t.Errorf("the request is given back with %q", text)
	}
	if resets.Load() != 0 {
		t.Error("reset while a ring runs")
	}
	rt.stopRing(0)
	if resets.Load() != 1 {
		t.Errorf("%d resets after all rings have stopped", resets.Load())
	}
	for i, r := range rt.ring {
		clear(rt.mem[r.at : r.at+ringSpace])
		r.avail, r.used = 0, 0
		rt.startRing(i, 0, false)
	}
	rt.post(1, 3, "again", 10)
	if i, text := rt.answer(1); i != 3 || text != "AGAIN" {
		t.Errorf("request %d is answered %q", i, text)
	}
}

func TestRequestsEndWithContext(t *testing.T) {
	entered := make(chan struct{})
	rt := serveRequests(t, RequestConfig{Handle: func(ctx context.Context, _ int, _, _ [][]byte) int {
		close(entered)
		<-ctx.Done()
		return 0
	}})
	rt.post(0, 0, "x", 10)
	<-entered
	rt.end()
	if err := rt.wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("ServeRequests: %v", err)
	}
}

// A handler that fails ends the device, not the process.
func TestRequestsPanic(t *testing.T) {
	rt := serveRequests(t, RequestConfig{Handle: func(_ context.Context, _ int, in, _ [][]byte) int {
		return int(in[0][len(in[0])])
	}})
	rt.post(0, 0, "x", 10)
	if err := rt.wait(); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("ServeRequests: %v", err)
	}
}

// What a guest does to its rings stops them until its driver resets the device.
func TestRequestsBrokenRings(t *testing.T) {
	const at = guestBase + buffers
	for name, test := range map[string]struct {
		want string
		do   func(d *driver, r *driverRing)
	}{
		"head out of range": {"descriptor index 128", func(d *driver, r *driverRing) { r.offer(ringSize) }},
		"loop": {"has a loop", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, 44, descNext, 1)
			d.desc(r.descAt(), 1, at, 44, descNext, 0)
			r.offer(0)
		}},
		"loop of answers": {"has a loop", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, 44, descNext|descWrite, 0)
			r.offer(0)
		}},
		"outside": {"outside of the guest's memory", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, 44, descNext, 1)
			d.desc(r.descAt(), 1, guestBase+guestSize-1, 2, descWrite, 0)
			r.offer(0)
		}},
		"wraps": {"wraps", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, 1<<64-1, 44, 0, 0)
			r.offer(0)
		}},
		"request behind the answer": {"wrong direction", func(d *driver, r *driverRing) {
			d.desc(r.descAt(), 0, at, 44, descNext|descWrite, 1)
			d.desc(r.descAt(), 1, at, 44, 0, 0)
			r.offer(0)
		}},
		"runs ahead": {"ahead of", func(d *driver, r *driverRing) {
			r.publish(r.avail + ringSize + 1)
			r.doorbell()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			book := new(logbook)
			broke := make(chan struct{})
			var once sync.Once
			rt := serveRequests(t, RequestConfig{Handle: upper, Logf: func(format string, args ...any) {
				book.logf(format, args...)
				once.Do(func() { close(broke) })
			}})
			rt.post(0, 9, "before", 10)
			rt.answer(0)
			test.do(rt.driver, rt.ring[0])
			<-broke
			if !strings.Contains(book.String(), test.want) {
				t.Errorf("log %q, want %q", book, test.want)
			}
			for i, r := range rt.ring {
				rt.stopRing(i)
				clear(rt.mem[r.at : r.at+ringSpace])
				r.avail, r.used = 0, 0
			}
			for i := range rt.ring {
				rt.startRing(i, 0, false)
			}
			rt.post(0, 0, "after", 10)
			if _, text := rt.answer(0); text != "AFTER" {
				t.Errorf("answered %q", text)
			}
		})
	}
}

func TestRequestConfig(t *testing.T) {
	for _, n := range []int{-1, 0, maxRequestQueues + 1} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := ServeRequests(t.Context(), r, RequestConfig{Queues: n, Handle: upper}); err == nil {
			t.Errorf("a device with %d queues", n)
		}
		if err := r.Close(); err == nil {
			t.Error("the socket stays open")
		}
	}
}
