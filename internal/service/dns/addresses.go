package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/miekg/dns"
)

// Addresses resolves a name as a question of the guest would be, for a guest
// that connects to the name itself. IPv4 comes first. What it finds is told to
// the policy with its TTL, and is never what stands for a name in [FakeNames].
// The error is a clause that names no name.
func (s *Server) Addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	types := [2]uint16{dns.TypeA, dns.TypeAAAA}
	var answers [2]*dns.Msg
	var both sync.WaitGroup
	for i, t := range types {
		q := dns.Question{Name: dns.Fqdn(name), Qtype: t, Qclass: dns.ClassINET}
		r := &request{
			MsgHdr:   dns.MsgHdr{Id: dns.Id(), RecursionDesired: true},
			question: q, name: canonical(q.Name), size: dns.MaxMsgSize, real: true,
		}
		both.Go(func() { answers[i] = s.answer(ctx, r) })
	}
	both.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var addrs []netip.Addr
	rcode := dns.RcodeSuccess
	for _, m := range answers {
		if m.Rcode != dns.RcodeSuccess {
			rcode = m.Rcode
		}
		for _, rr := range m.Answer {
			if bearsAddress(rr) {
				addrs = appendAddresses(addrs, rr)
			}
		}
	}
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case rcode == dns.RcodeSuccess, rcode == dns.RcodeNameError:
		return nil, errors.New("it has no address")
	}
	return nil, fmt.Errorf("no nameserver of the host has an answer (%s)", dns.RcodeToString[rcode])
}
