//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/miekg/dns"

	"bake/test/bench/traffic"
)

const (
	// benchDNS is on an address of the loopback that nothing else uses, since
	// resolv.conf(5) can name no port.
	benchDNS  = "127.53.53.53"
	benchName = "answer.example.test"
)

// netServers are the ends that the guest reaches on the host's loopback.
type netServers struct {
	tcpPort, udpPort int
	resolvConf       string

	close []func() error
	done  sync.WaitGroup
}

func (s *netServers) start(dir string) error {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.tcpPort = tcp.Addr().(*net.TCPAddr).Port
	s.close = append(s.close, tcp.Close)
	s.done.Go(func() { serve(tcp) })

	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	s.udpPort = udp.LocalAddr().(*net.UDPAddr).Port
	s.close = append(s.close, udp.Close)
	s.done.Go(func() { _ = traffic.ServeDatagrams(udp) })

	resolver, err := net.ListenPacket("udp", benchDNS+":53")
	if err != nil {
		return fmt.Errorf("serve DNS, for which this benchmark must run as root: %w", err)
	}
	server := &dns.Server{PacketConn: resolver, Handler: dns.HandlerFunc(answer)}
	s.close = append(s.close, resolver.Close)
	s.done.Go(func() { _ = server.ActivateAndServe() }) // ends with its socket
	s.resolvConf = filepath.Join(dir, "resolv.conf")
	return os.WriteFile(s.resolvConf, []byte("nameserver "+benchDNS+"\n"), 0o644)
}

// answer has one address for every name. That it may not be kept is no matter
// of the time it takes, which each resolver is asked for anew.
func answer(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	for _, q := range query.Question {
		if q.Qtype == dns.TypeA {
			reply.Answer = append(reply.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
				A:   net.IPv4(203, 0, 113, 7),
			})
		}
	}
	_ = w.WriteMsg(reply) // who asked will miss it
}

func (s *netServers) stop() {
	var errs []error
	for _, f := range s.close {
		errs = append(errs, f())
	}
	_ = errors.Join(errs...) // closed sockets have nothing to tell
	s.done.Wait()
}
