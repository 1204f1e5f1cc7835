//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	dnsservice "bake/internal/service/dns"
	"bake/internal/wire"
	"bake/test/bench/traffic"
)

const (
	netRounds = 3
	// netUDPTime is how long a flood of datagrams lasts.
	netUDPTime  = time.Second
	netConnects = 100
	netQueries  = 200

	redisClients = 50
	redisNumber  = 5000
	redisDeep    = 50000 // pipelined
	redisPipe    = "16"
)

// The directions of what is measured.
const (
	guestToHost = iota // the guest dials
	hostToGuest
	publishedIn // the host dials a published port
	publishedOut
	directions
)

var directionName = [directions]string{"guest→host", "host→guest", "published, host→guest", "published, guest→host"}

// The sizes of datagrams, in bytes: one that fits into an Ethernet frame, and a
// large one.
var datagramSizes = [2]int{1400, 60000}

// What redis-benchmark does.
var redisTests = [4]string{"SET", "GET", "SET, " + redisPipe + " in a row", "GET, " + redisPipe + " in a row"}

// A netPeer is one of the networks and what was measured of it.
type netPeer struct {
	name string
	host string // the guest's address of the host's loopback
	dns  string // the guest's DNS server
	more []int  // processes besides the app and its VMM
	mib  int64  // carried at a time: about a second of it

	speed     [directions]samples // MB/s
	cpuHost   [directions]samples // CPU seconds a GB
	cpuGuest  [directions]samples
	pings     samples                        // round trips a second, redisClients at once, the host dials
	connects  samples                        // a second, the guest dials
	datagrams [2][len(datagramSizes)]samples // MB/s that arrived; guestToHost, hostToGuest
	lost      [2][len(datagramSizes)]samples // of what was sent, in %, guestToHost
	resolve   samples                        // µs, medians
	redis     [len(redisTests)]samples       // requests a second
	broken    []string
}

// fixed are the bounds that no peer can pass, measured between them.
type fixed struct {
	vsockPing    samples // round trips a second, redisClients at once
	redisInside  [len(redisTests)]samples
	resolveAlone samples // µs, asked by the host itself
	resolveOurs  samples // µs, asked of bake's service without a guest
}

func (g *netGuest) measure(ctx context.Context) error {
	for round := range netRounds {
		took, err := traffic.Chorus(func() (io.ReadWriteCloser, error) { return g.vsock.Dial(ctx, traffic.PortGuest) },
			redisClients, redisNumber/redisClients)
		if err != nil {
			return fmt.Errorf("measure %d streams of vsock: %w", redisClients, err)
		}
		g.fixed.vsockPing.add(redisNumber / took.Seconds())
		times, err := traffic.Resolve(benchDNS+":53", benchName, netQueries)
		if err != nil {
			return err
		}
		g.fixed.resolveAlone.add(median(times))
		if err := errors.Join(g.serviceAlone(ctx), g.redisInGuest()); err != nil {
			return err
		}
		for _, p := range g.peers {
			if err := g.round(ctx, p); err != nil {
				err = fmt.Errorf("round %d of %s: %w", round+1, p.name, err)
				if p.name == "hostnet" || ctx.Err() != nil {
					return err
				}
				// A peer that cannot do something has its other figures.
				p.broken = append(p.broken, err.Error())
				fmt.Printf("   %v\n", err)
			}
		}
	}
	return nil
}

// serviceAlone has bake's DNS service answer in this process, so that what
// emulation makes slow is left out.
func (g *netGuest) serviceAlone(ctx context.Context) error {
	server := dnsservice.New(dnsservice.Options{Network: wire.DefaultNetwork(false), ResolvConf: g.servers.resolvConf})
	times := make([]time.Duration, netQueries)
	for i := range times {
		query, err := new(dns.Msg).SetQuestion(dns.Fqdn(benchName), dns.TypeA).Pack()
		if err != nil {
			return err
		}
		began := time.Now()
		answer := server.Exchange(ctx, query)
		times[i] = time.Since(began)
		if !bytes.Contains(answer, []byte{203, 0, 113, 7}) {
			return fmt.Errorf("bake's DNS service answers something else than the address of %s: %x", benchName, answer)
		}
	}
	g.fixed.resolveOurs.add(median(times))
	return nil
}

func median(times []time.Duration) float64 {
	var us samples
	for _, t := range times {
		us.add(float64(t.Nanoseconds()) / 1000)
	}
	return us.median()
}

// round measures everything once.
func (g *netGuest) round(ctx context.Context, p *netPeer) error {
	return errors.Join(g.streams(ctx, p), g.published(ctx, p), g.floods(p), g.resolveIn(p), g.redis(ctx, p))
}

// timed notes the speed of a transfer and what CPU it took.
func (g *netGuest) timed(p *netPeer, direction int, transfer func() (time.Duration, error)) error {
	before, err := g.pids.read(p.more)
	if err != nil {
		return err
	}
	took, err := transfer()
	if err != nil {
		return fmt.Errorf("%s: %w", directionName[direction], err)
	}
	after, err := g.pids.read(p.more)
	if err != nil {
		return err
	}
	gb := float64(p.mib<<20) / 1e9
	used := after.since(before)
	p.speed[direction].add(gb * 1000 / took.Seconds())
	p.cpuHost[direction].add(used.host / gb)
	p.cpuGuest[direction].add(used.guest / gb)
	return nil
}

// streams measures what the guest dials.
func (g *netGuest) streams(_ context.Context, p *netPeer) error {
	order := func(op string, count int64) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			r, err := g.do(traffic.Order{Op: op, Transport: traffic.TCP, Address: net.JoinHostPort(p.host, fmt.Sprint(g.servers.tcpPort)), Count: count})
			return r.Took, err
		}
	}
	if err := g.timed(p, guestToHost, order(traffic.OrderUpload, p.mib<<20)); err != nil {
		return err
	}
	if err := g.timed(p, hostToGuest, order(traffic.OrderDownload, p.mib<<20)); err != nil {
		return err
	}
	took, err := order(traffic.OrderConnect, netConnects)()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	p.connects.add(netConnects / took.Seconds())
	return nil
}

// published measures what the host dials.
func (g *netGuest) published(ctx context.Context, p *netPeer) error {
	for direction, transfer := range map[int]func(io.ReadWriter, int64) (time.Duration, error){
		publishedIn: traffic.Upload, publishedOut: traffic.Download,
	} {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", g.ports[p.name]))
		if err != nil {
			return err
		}
		err = g.timed(p, direction, func() (time.Duration, error) { return transfer(conn, p.mib<<20) })
		if err := errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
	took, err := traffic.Chorus(func() (io.ReadWriteCloser, error) {
		return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.ports[p.name]))
	}, redisClients, redisNumber/redisClients)
	if err != nil {
		return fmt.Errorf("%d streams at once: %w", redisClients, err)
	}
	p.pings.add(redisNumber / took.Seconds())
	return nil
}

// floods measures datagrams: what arrives of them.
func (g *netGuest) floods(p *netPeer) error {
	var errs []error
	for i, size := range datagramSizes {
		if err := g.floodOut(p, i, size); err != nil {
			errs = append(errs, fmt.Errorf("datagrams of %d bytes to the host: %w", size, err))
		}
		r, err := g.do(traffic.Order{Op: traffic.OrderCollect, Size: size, Length: netUDPTime,
			Address: net.JoinHostPort(p.host, fmt.Sprint(g.servers.udpPort))})
		if err != nil {
			errs = append(errs, fmt.Errorf("datagrams of %d bytes to the guest: %w", size, err))
			continue
		}
		p.datagrams[hostToGuest][i].add(r.Flow.Rate() / 1e6)
	}
	return errors.Join(errs...)
}

func (g *netGuest) floodOut(p *netPeer, i, size int) error {
	sink, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer sink.Close()
	type arrival struct {
		flow traffic.Flow
		err  error
	}
	arrived := make(chan arrival, 1)
	go func() {
		f, err := traffic.Collect(sink)
		arrived <- arrival{f, err}
	}()
	sent, err := g.do(traffic.Order{Op: traffic.OrderFlood, Size: size, Length: netUDPTime,
		Address: net.JoinHostPort(p.host, fmt.Sprint(sink.LocalAddr().(*net.UDPAddr).Port))})
	a := <-arrived
	if err := errors.Join(err, a.err); err != nil {
		return err
	}
	p.datagrams[guestToHost][i].add(a.flow.Rate() / 1e6)
	p.lost[guestToHost][i].add(100 * (1 - float64(a.flow.Bytes)/float64(sent.Flow.Bytes)))
	return nil
}

func (g *netGuest) resolveIn(p *netPeer) error {
	r, err := g.do(traffic.Order{Op: traffic.OrderResolve, Address: p.dns, Name: benchName, Count: netQueries})
	if err != nil {
		return err
	}
	p.resolve.add(median(r.Times))
	return nil
}

// redisBenchmark is a run of redis-benchmark, in a row or pipelined.
func redisBenchmark(port int, pipelined bool) []string {
	args := []string{"redis-benchmark", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-c", fmt.Sprint(redisClients), "-t", "set,get", "--csv"}
	if pipelined {
		return append(args, "-n", fmt.Sprint(redisDeep), "-P", redisPipe)
	}
	return append(args, "-n", fmt.Sprint(redisNumber))
}

// redis runs redis-benchmark on the host against the redis in the guest.
func (g *netGuest) redis(ctx context.Context, p *netPeer) error {
	for i, pipelined := range []bool{false, true} {
		args := redisBenchmark(g.ports[p.name+"-redis"], pipelined)
		out, err := run(ctx, nil, args[0], args[1:]...)
		if err != nil {
			return err
		}
		if err := addRates(&p.redis, i, out); err != nil {
			return err
		}
	}
	return nil
}

// redisInGuest runs it in the guest too, where client and server share the
// guest's CPUs and there is no way between them.
func (g *netGuest) redisInGuest() error {
	for i, pipelined := range []bool{false, true} {
		r, err := g.do(traffic.Order{Op: traffic.OrderRun, Command: redisBenchmark(redisPort, pipelined)})
		if err != nil {
			return err
		}
		if err := addRates(&g.fixed.redisInside, i, r.Output); err != nil {
			return err
		}
	}
	return nil
}

// addRates adds what a run says, the i-th of a round.
func addRates(to *[len(redisTests)]samples, i int, out string) error {
	rates, err := redisRates(out)
	if err != nil {
		return err
	}
	to[2*i].add(rates["SET"])
	to[2*i+1].add(rates["GET"])
	return nil
}

// redisRates reads the table that redis-benchmark --csv prints: requests a
// second by test.
func redisRates(out string) (map[string]float64, error) {
	r := csv.NewReader(strings.NewReader(out))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read what redis-benchmark prints: %w", err)
	}
	rates := map[string]float64{}
	for _, row := range rows {
		if len(row) < 2 {
			continue
		}
		if v, err := strconv.ParseFloat(row[1], 64); err == nil {
			rates[row[0]] = v
		}
	}
	if rates["SET"] == 0 || rates["GET"] == 0 || math.IsInf(rates["SET"], 0) {
		return nil, fmt.Errorf("redis-benchmark does not tell how fast SET and GET are:\n%s", out)
	}
	return rates, nil
}
