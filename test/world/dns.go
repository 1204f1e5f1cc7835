//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// serveDNS ZONE ADDR... answers on UDP and TCP what the master file (RFC 1035
// section 5) says at the time of the question. Chains of CNAME are followed,
// "*" matches one label, and a name that is not there is NXDOMAIN.
func serveDNS(args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	zone := args[0]
	for _, addr := range args[1:] {
		pc, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		for _, server := range []*dns.Server{
			{PacketConn: pc, Handler: zoneHandler{zone, "udp"}},
			{Listener: ln, Handler: zoneHandler{zone, "tcp"}},
		} {
			go func() { fmt.Fprintln(os.Stderr, "world:", server.ActivateAndServe()) }()
		}
	}
	return untilTerminated()
}

type zoneHandler struct{ zone, over string }

func (h zoneHandler) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	reply.Authoritative, reply.RecursionAvailable = true, true
	q := query.Question[0]
	say("question %s %s over %s", q.Name, dns.TypeToString[q.Qtype], h.over)
	records, err := readZone(h.zone)
	if err != nil {
		fmt.Fprintln(os.Stderr, "world:", err)
		reply.Rcode = dns.RcodeServerFailure
	} else {
		answerFrom(records, reply, q)
	}
	size := dns.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
		reply.SetEdns0(dns.DefaultMsgSize, false)
	}
	if h.over == "udp" {
		reply.Truncate(size)
	}
	if err := w.WriteMsg(reply); err != nil {
		fmt.Fprintln(os.Stderr, "world:", err)
	}
}

func readZone(path string) ([]dns.RR, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var records []dns.RR
	parser := dns.NewZoneParser(f, ".", path)
	parser.SetDefaultTTL(0)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records = append(records, rr)
	}
	return records, parser.Err()
}

func answerFrom(records []dns.RR, reply *dns.Msg, q dns.Question) {
	name, known := q.Name, false
	const longestChain = 10
	for range longestChain {
		next := ""
		for _, rr := range records {
			if !covers(rr.Header().Name, name) {
				continue
			}
			known = true
			cname, isCNAME := rr.(*dns.CNAME)
			if rr.Header().Rrtype != q.Qtype && !isCNAME {
				continue
			}
			found := dns.Copy(rr)
			found.Header().Name = name
			reply.Answer = append(reply.Answer, found)
			if isCNAME && q.Qtype != dns.TypeCNAME {
				next = cname.Target
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if !known {
		reply.Rcode = dns.RcodeNameError
	}
}

// covers says whether a record with that owner answers for name.
func covers(owner, name string) bool {
	if suffix, ok := strings.CutPrefix(owner, "*."); ok {
		_, parent, _ := strings.Cut(name, ".")
		return strings.EqualFold(parent, suffix)
	}
	return strings.EqualFold(owner, name)
}
