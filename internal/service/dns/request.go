package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

const (
	headerSize = 12
	// ownSize is the largest datagram that we ask nameservers to send and tell
	// the guest to send us, in bytes: one that crosses the Internet whole.
	ownSize = 1232
	// maxRecords bounds the records beside the question of a query: an OPT, a
	// TSIG or SIG(0), and room for what may come.
	maxRecords = 4
)

// A request is the guest's query.
type request struct {
	dns.MsgHdr
	question dns.Question
	// name is the question's, as tables and the policy have it.
	name string
	// opt is nil in a query without EDNS (RFC 6891).
	opt *dns.OPT
	// size is the longest answer that the guest takes, in bytes.
	size int
	// real asks for addresses where the guest would get what stands for them.
	real bool
}

// parseRequest reads a query. Where it is none, the answer says why; a nil
// answer says that there is nobody to answer.
func parseRequest(query []byte, stream bool) (*request, *dns.Msg) {
	if len(query) < headerSize {
		return nil, nil
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(query[4+2*i:])) }
	m := new(dns.Msg)
	if err := m.Unpack(query[:headerSize]); err != nil || m.Response {
		return nil, nil
	}
	r := &request{MsgHdr: m.MsgHdr, size: dns.MinMsgSize}
	if m.Opcode != dns.OpcodeQuery {
		return nil, r.failure(dns.RcodeNotImplemented)
	}
	if count(0) != 1 || count(1) != 0 || count(2) > 1 || count(3) > maxRecords {
		return nil, r.failure(dns.RcodeFormatError)
	}
	if err := m.Unpack(query); err != nil || len(m.Question) != 1 {
		return nil, r.failure(dns.RcodeFormatError)
	}
	r.question = m.Question[0]
	r.name = canonical(r.question.Name)
	for _, rr := range m.Extra {
		opt, ok := rr.(*dns.OPT)
		if !ok {
			continue
		}
		if r.opt != nil {
			return nil, r.failure(dns.RcodeFormatError) // RFC 6891, section 6.1.1
		}
		r.opt = opt
		r.size = min(max(int(opt.UDPSize()), dns.MinMsgSize), wire.MaxDatagram)
	}
	if stream {
		r.size = dns.MaxMsgSize
	}
	if r.opt != nil && r.opt.Version() != 0 {
		return nil, r.failure(dns.RcodeBadVers)
	}
	switch r.question.Qtype {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeTKEY, dns.TypeTSIG:
		// Conversations with one server, which a forwarder cannot be.
		return nil, r.failure(dns.RcodeNotImplemented)
	case dns.TypeNone, dns.TypeOPT:
		return nil, r.failure(dns.RcodeFormatError)
	}
	return r, nil
}

// answer is an empty answer to r.
func (r *request) answer(rcode int) *dns.Msg {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{
		Id: r.Id, Response: true, Opcode: r.Opcode, Rcode: rcode,
		RecursionDesired: r.RecursionDesired, RecursionAvailable: true, CheckingDisabled: r.CheckingDisabled,
	}}
	if r.question.Name != "" {
		m.Question = []dns.Question{r.question}
	}
	if r.opt != nil {
		o := newOPT()
		o.SetDo(r.opt.Do())
		m.Extra = []dns.RR{o}
	}
	return m
}

// failure is an answer that says what is wrong, by its rcode and, to who
// understands EDNS, by the codes of extended errors (RFC 8914).
func (r *request) failure(rcode int, extended ...uint16) *dns.Msg {
	m := r.answer(rcode)
	for _, code := range extended {
		if o := m.IsEdns0(); o != nil {
			o.Option = append(o.Option, &dns.EDNS0_EDE{InfoCode: code})
		}
	}
	return m
}

// forward is r as we ask it of a nameserver: with EDNS if the guest used it.
func (r *request) forward() *dns.Msg {
	m := &dns.Msg{
		MsgHdr: dns.MsgHdr{
			Opcode: dns.OpcodeQuery, RecursionDesired: r.RecursionDesired,
			AuthenticatedData: r.AuthenticatedData, CheckingDisabled: r.CheckingDisabled,
		},
		Question: []dns.Question{r.question},
	}
	if r.opt != nil {
		o := newOPT()
		o.SetDo(r.opt.Do())
		o.Option = endToEnd(r.opt.Option)
		m.Extra = []dns.RR{o}
	}
	return m
}

func newOPT() *dns.OPT {
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	o.SetUDPSize(ownSize)
	return o
}

// endToEnd are the options that mean something beyond one hop. A cookie (RFC
// 7873) belongs to a pair of addresses, keepalive (RFC 7828, section 3.1) to a
// connection and padding (RFC 7830) to a message; all others, unknown ones and
// the guest's own client subnet among them, pass.
func endToEnd(options []dns.EDNS0) []dns.EDNS0 {
	var kept []dns.EDNS0
	for _, o := range options {
		switch o.Option() {
		case dns.EDNS0COOKIE, dns.EDNS0TCPKEEPALIVE, dns.EDNS0PADDING:
		default:
			kept = append(kept, o)
		}
	}
	return kept
}

// pack encodes m in at most r's size, cut and marked as cut (TC) if need be.
func (r *request) pack(m *dns.Msg) []byte {
	m.Truncate(r.size)
	b, err := m.Pack()
	if err == nil && len(b) > r.size {
		// Options that fill a datagram.
		m = r.answer(dns.RcodeSuccess)
		m.Truncated = true
		b, err = m.Pack()
	}
	if err == nil && len(m.Answer)+len(m.Ns) > 0 {
		// The library reads records that end too early, but does not write
		// them.
		err = new(dns.Msg).Unpack(b)
	}
	if err != nil {
		if b, err = r.failure(dns.RcodeServerFailure, dns.ExtendedErrorCodeInvalidData).Pack(); err != nil {
			return nil
		}
	}
	return b
}
