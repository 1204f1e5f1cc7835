//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bake/internal/vsock"
	"bake/test/bench/traffic"
)

const (
	trafficRounds = 5
	crowdRounds   = 3
	// trafficTime bounds the whole benchmark: a guest that hangs ends it.
	trafficTime = 6 * time.Minute

	pingPongs   = 1000
	connections = 200 // one after the other
	crowd       = 1000
)

// A transport is one of the ways into and out of the guest. What cannot be
// measured on it is nil.
type transport struct {
	name string
	mib  int64        // sent in each direction, each round
	dial traffic.Dial // host to guest
	// guestDials says that the guest can open a stream.
	guestDials bool
	stream     io.ReadWriter // the one stream where there is no more than one

	toHost, toGuest           [2]samples // MB/s; who dials: guest, host
	p50, p99                  [2]samples // µs; who dials
	connects                  [2]samples // a second; who dials
	crowdTook                 [2]samples // seconds; who dials
	crowdFailed, crowdStreams [2]int     // who dials
	crowdReason               [2]string

	broken error // what ended the measurement of a peer
}

// Who dials a stream.
const (
	byGuest = iota
	byHost
)

var dialler = [2]string{"guest dials", "host dials"}

// vsockTraffic measures vsock, a virtio-serial port and QEMU's user network in
// one guest, by turns.
func vsockTraffic(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithTimeout(ctx, trafficTime)
	defer cancel()
	g, err := b.startTrafficGuest(ctx)
	if err != nil {
		return err
	}
	err = g.measure()
	if err := errors.Join(err, g.stop()); err != nil {
		return fmt.Errorf("%w\nthe guest's console:\n%s", err, g.console.Bytes())
	}
	g.tell(&b.table)
	return nil
}

// A trafficGuest is a VM with test/bench/guest in it.
type trafficGuest struct {
	vm         *vm
	orders     *orders
	tcpPort    int // of the host's Serve
	listeners  []net.Listener
	transports []*transport
	console    bytes.Buffer
	read       chan struct{} // closed when the console has ended
}

func (b *bench) startTrafficGuest(ctx context.Context) (_ *trafficGuest, err error) {
	app, err := b.busyboxApp(ctx)
	if err != nil {
		return nil, err
	}
	init := filepath.Join(b.dir, "guest-init")
	p, err := planOf(ctx, app)
	if err != nil {
		return nil, err
	}
	if _, err := run(ctx, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + p.Arch}, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", init, "./test/bench/guest"); err != nil {
		return nil, err
	}
	m, err := b.newMachine(ctx, app, "vsock", init)
	if err != nil {
		return nil, err
	}
	forward, err := freePort()
	if err != nil {
		return nil, err
	}
	serial := filepath.Join(m.dir, "serial")
	bus := "-device"
	if slices.ContainsFunc(m.plan.Command, func(a string) bool { return strings.HasPrefix(a, "virtio-rng-pci") }) {
		bus = "-pci"
	}
	m.extra = []string{
		"-chardev", "socket,id=peer-serial,path=" + serial + ",server=on,wait=off",
		"-device", "virtio-serial" + bus,
		"-device", "virtserialport,chardev=peer-serial,name=peer",
		"-netdev", fmt.Sprintf("user,id=peer-net,hostfwd=tcp:127.0.0.1:%d-:%d", forward, traffic.PortGuest),
		"-device", "virtio-net" + bus + ",netdev=peer-net",
	}
	g := &trafficGuest{read: make(chan struct{})}
	defer func() {
		if err != nil {
			for _, l := range g.listeners {
				l.Close()
			}
		}
	}()
	if err := g.listen(filepath.Join(m.dir, "v")); err != nil {
		return nil, err
	}
	if g.vm, err = m.start(ctx); err != nil {
		return nil, err
	}
	go func() {
		defer close(g.read)
		io.Copy(&g.console, g.vm.console)
	}()
	if err := g.join(ctx, serial, forward); err != nil {
		g.vm.cmd.Process.Kill()
		<-g.read
		return nil, errors.Join(fmt.Errorf("%w\nthe guest's console:\n%s", err, g.console.Bytes()), g.vm.wait())
	}
	return g, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// listen serves what the guest dials and waits for its call for orders.
func (g *trafficGuest) listen(path string) error {
	v := vsock.Hybrid{Path: path}
	for _, listen := range []func() (net.Listener, error){
		func() (net.Listener, error) { return v.Listen(traffic.PortOrders) },
		func() (net.Listener, error) { return v.Listen(traffic.PortHost) },
		func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
	} {
		l, err := listen()
		if err != nil {
			return err
		}
		g.listeners = append(g.listeners, l)
	}
	g.tcpPort = g.listeners[2].Addr().(*net.TCPAddr).Port
	for _, l := range g.listeners[1:] {
		go serve(l)
	}
	return nil
}

// serve ends with its listener. A stream that breaks shows at its other end.
func serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = traffic.Serve(conn)
		}()
	}
}

// join waits until the guest is up and makes the transports.
func (g *trafficGuest) join(ctx context.Context, serial string, forward int) error {
	stop := context.AfterFunc(ctx, func() { g.listeners[0].Close() })
	defer stop()
	go func() { // a guest that ends does not call
		<-g.read
		g.listeners[0].Close()
	}()
	conn, err := g.listeners[0].Accept()
	if err != nil {
		return fmt.Errorf("the guest did not come up: %w", err)
	}
	g.orders = newOrders(conn)
	port, err := net.Dial("unix", serial)
	if err != nil {
		return fmt.Errorf("open the serial port: %w", err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", forward)
	g.transports = []*transport{
		{name: traffic.VSock, mib: 128, guestDials: true, dial: func() (io.ReadWriteCloser, error) {
			return g.vm.vsock.Dial(ctx, traffic.PortGuest)
		}},
		{name: traffic.Serial, mib: 64, stream: port},
		{name: traffic.Slirp, mib: 32, guestDials: true, dial: func() (io.ReadWriteCloser, error) {
			return net.Dial("tcp", address)
		}},
	}
	return nil
}

// stop ends the guest and frees all.
func (g *trafficGuest) stop() error {
	err := g.orders.powerOff()
	<-g.read
	err = errors.Join(err, g.vm.wait())
	for _, l := range g.listeners {
		l.Close()
	}
	return err
}

func (g *trafficGuest) measure() error {
	for round := range trafficRounds {
		for _, t := range g.transports {
			if t.broken != nil {
				continue
			}
			err := g.round(t, round)
			if err == nil {
				continue
			}
			err = fmt.Errorf("round %d over %s: %w", round+1, t.name, err)
			if t.name == traffic.VSock || round == 0 {
				return err
			}
			// A peer that breaks has its figures up to then.
			t.broken = err
			fmt.Printf("   %v\n", err)
		}
	}
	return nil
}

func (g *trafficGuest) round(t *transport, round int) error {
	if t.stream != nil {
		return t.measure(t.stream)
	}
	rw, err := t.dial()
	if err != nil {
		return err
	}
	err = errors.Join(t.measure(rw), rw.Close())
	if err != nil {
		return err
	}
	if err := g.byGuest(t); err != nil {
		return fmt.Errorf("the guest dials: %w", err)
	}
	took, err := traffic.Connect(t.dial, connections)
	if err != nil {
		return fmt.Errorf("the host dials: %w", err)
	}
	t.connects[byHost].add(connections / took.Seconds())
	if round >= crowdRounds {
		return nil
	}
	took, failed := traffic.Crowd(t.dial, crowd)
	t.countCrowd(byHost, took, failed)
	r, err := g.orders.do(traffic.Order{Op: traffic.OrderCrowd, Transport: t.name, TCPPort: g.tcpPort, Count: crowd})
	if err != nil {
		return err
	}
	failed = make([]error, r.Failed)
	for i := range failed {
		failed[i] = errors.New(r.Reason)
	}
	t.countCrowd(byGuest, r.Took, failed)
	return nil
}

// measure measures a stream with the host as client.
func (t *transport) measure(rw io.ReadWriter) error {
	down, err := traffic.Upload(rw, t.mib<<20)
	if err != nil {
		return err
	}
	up, err := traffic.Download(rw, t.mib<<20)
	if err != nil {
		return err
	}
	times, err := traffic.PingPong(rw, pingPongs)
	if err != nil {
		return err
	}
	t.toGuest[byHost].add(t.speed(down))
	t.toHost[byHost].add(t.speed(up))
	t.latency(byHost, times)
	return nil
}

// byGuest measures what the guest dials, with the guest as client.
func (g *trafficGuest) byGuest(t *transport) error {
	order := func(op string, count int64) (traffic.Result, error) {
		return g.orders.do(traffic.Order{Op: op, Transport: t.name, TCPPort: g.tcpPort, Count: count})
	}
	up, err := order(traffic.OrderUpload, t.mib<<20)
	if err != nil {
		return err
	}
	down, err := order(traffic.OrderDownload, t.mib<<20)
	if err != nil {
		return err
	}
	pings, err := order(traffic.OrderPingPong, pingPongs)
	if err != nil {
		return err
	}
	opened, err := order(traffic.OrderConnect, connections)
	if err != nil {
		return err
	}
	t.toHost[byGuest].add(t.speed(up.Took))
	t.toGuest[byGuest].add(t.speed(down.Took))
	t.latency(byGuest, pings.Times)
	t.connects[byGuest].add(connections / opened.Took.Seconds())
	return nil
}

func (t *transport) speed(d time.Duration) float64 {
	return float64(t.mib<<20) / 1e6 / d.Seconds()
}

func (t *transport) latency(who int, times []time.Duration) {
	var us samples
	for _, d := range times {
		us.add(float64(d.Nanoseconds()) / 1000)
	}
	t.p50[who].add(us.median())
	t.p99[who].add(us.quantile(0.99))
}

func (t *transport) countCrowd(who int, took time.Duration, failed []error) {
	t.crowdStreams[who] += crowd
	t.crowdFailed[who] += len(failed)
	if len(failed) > 0 {
		t.crowdReason[who] = failed[0].Error()
		return
	}
	t.crowdTook[who].addSeconds(took)
}
