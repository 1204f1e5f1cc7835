package hostnet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

var (
	a4, b4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.9")
	a6, b6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::9")
)

func udpPacket(src, dst netip.Addr, payload []byte) []byte {
	b := appendIP(nil, src, dst, protoUDP, udpHeaderLen+len(payload), 77)
	b = append(b, 0x12, 0x34, 0, 53)
	b = binary.BigEndian.AppendUint16(b, uint16(udpHeaderLen+len(payload)))
	return append(append(b, 0, 0), payload...)
}

func TestParsePacket(t *testing.T) {
	for _, c := range []struct{ src, dst netip.Addr }{{a4, b4}, {a6, b6}} {
		b := udpPacket(c.src, c.dst, []byte("data"))
		// What follows a packet is not of it.
		p, ok := parsePacket(append(bytes.Clone(b), 1, 2, 3))
		if !ok || p.src != c.src || p.dst != c.dst || p.proto != protoUDP || p.ttl != 64 || p.fragment.is {
			t.Fatalf("%v is read as %+v, %v", b, p, ok)
		}
		src, dst, payload, ok := parseUDP(p.payload())
		if !ok || src != 0x1234 || dst != 53 || string(payload) != "data" {
			t.Errorf("UDP is read as %d, %d, %q, %v", src, dst, payload, ok)
		}
		for n := range b {
			if p, ok := parsePacket(b[:n]); ok {
				t.Errorf("%d bytes of %d are read as %+v", n, len(b), p)
			}
		}
	}
	// Two extension headers of IPv6.
	b := udpPacket(a6, b6, []byte("data"))
	options := []byte{protoDestOptions, 0, 1, 4, 0, 0, 0, 0, protoUDP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = append(append(bytes.Clone(b[:ipv6HeaderLen]), options...), b[ipv6HeaderLen:]...)
	b[6] = protoHopByHop
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6HeaderLen))
	p, ok := parsePacket(b)
	if !ok || p.proto != protoUDP || p.header != ipv6HeaderLen+len(options) {
		t.Errorf("extension headers are read as %+v, %v", p, ok)
	}
}

// fragments cuts a packet's payload, as a router does.
func fragments(b []byte, v6 bool, size int) (all []packet) {
	p, _ := parsePacket(b)
	data := p.payload()
	for at := 0; at < len(data); at += size {
		part := data[at:min(len(data), at+size)]
		more := at+len(part) < len(data)
		var f []byte
		if v6 {
			f = append(bytes.Clone(b[:ipv6HeaderLen]), p.proto, 0)
			place := uint16(at)
			if more {
				place |= 1
			}
			f = binary.BigEndian.AppendUint16(f, place)
			f = append(binary.BigEndian.AppendUint32(f, 99), part...)
			f[6] = protoFragment
			binary.BigEndian.PutUint16(f[4:], uint16(8+len(part)))
		} else {
			f = append(bytes.Clone(b[:ipv4HeaderLen]), part...)
			binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
			place := uint16(at / 8)
			if more {
				place |= 0x2000
			}
			binary.BigEndian.PutUint16(f[6:], place)
		}
		q, ok := parsePacket(f)
		if !ok {
			panic("a fragment does not parse")
		}
		all = append(all, q)
	}
	return all
}

func TestReassembly(t *testing.T) {
	now := time.Now()
	payload := make([]byte, 60_001)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	for _, c := range []struct{ src, dst netip.Addr }{{a4, b4}, {a6, b6}} {
		b := udpPacket(c.src, c.dst, payload)
		all := fragments(b, c.src.Is6(), 8192)
		for _, reversed := range []bool{false, true} {
			var r reassembler
			for i := range all {
				f := &all[i]
				if reversed {
					f = &all[len(all)-1-i]
				}
				whole, ok := r.add(f, now)
				if ok != (i == len(all)-1) {
					t.Fatalf("fragment %d of %d makes a packet: %v", i+1, len(all), ok)
				}
				if ok {
					_, _, got, ok := parseUDP(whole.payload())
					if !ok || !bytes.Equal(got, payload) || whole.src != c.src || whole.dst != c.dst || whole.proto != protoUDP {
						t.Errorf("the fragments make %d bytes of protocol %d", len(got), whole.proto)
					}
				}
			}
			if len(r.parts) != 0 || r.order.Len() != 0 {
				t.Error("something is left")
			}
		}
		// A fragment that comes twice ends the packet, and one that is late begins another.
		var r reassembler
		r.add(&all[0], now)
		r.add(&all[0], now)
		if len(r.parts) != 0 {
			t.Error("fragments that overlap are kept")
		}
		r.add(&all[0], now)
		r.add(&all[1], now.Add(2*reassemblyTime))
		if r.order.Len() != 1 || r.order.Front().Value.(*partial).blocks != 8192/8 {
			t.Error("an old fragment is kept")
		}
		for id := range uint32(2 * reassemblies) {
			f := all[0]
			f.fragment.id = id
			r.add(&f, now)
		}
		if len(r.parts) != reassemblies || r.order.Len() != reassemblies {
			t.Errorf("%d packets are kept in part", len(r.parts))
		}
	}
}

func TestErrorQuotesThePacket(t *testing.T) {
	for _, c := range []struct {
		src, dst, router netip.Addr
		reason           reason
		want             [2]byte
	}{
		{a4, b4, netip.MustParseAddr("198.18.0.2"), noHost, [2]byte{3, 1}},
		{a4, b4, netip.MustParseAddr("198.18.0.2"), prohibited, [2]byte{3, 13}},
		{a6, b6, netip.MustParseAddr("fd62:616b:6500::2"), noNetwork, [2]byte{1, 0}},
		{a6, b6, netip.MustParseAddr("fd62:616b:6500::2"), expired, [2]byte{3, 0}},
	} {
		b := udpPacket(c.src, c.dst, make([]byte, 3000))
		p, ok := parsePacket(appendError(nil, c.router, quote{c.src, c.dst, b}, c.reason, 5))
		if !ok || p.src != c.router || p.dst != c.src {
			t.Fatalf("the error is %+v, %v", p, ok)
		}
		m := p.payload()
		if [2]byte(m) != c.want || !bytes.Equal(m[8:], b[:len(m)-8]) || len(p.bytes) > 576 {
			t.Errorf("%v: type and code are %v, and the quote %d bytes", c.reason, m[:2], len(m)-8)
		}
		initial := uint64(0)
		if c.src.Is6() {
			initial = pseudoSum(c.router.AsSlice(), c.src.AsSlice(), protoICMPv6, len(m))
		}
		if fold(sum(m, initial)) != 0xffff {
			t.Errorf("%v: the checksum is wrong", c.reason)
		}
	}
}

// RFC 1071, section 3.
func TestSum(t *testing.T) {
	if got := fold(sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0)); got != 0xddf2 {
		t.Errorf("the sum is %#x", got)
	}
	if got := fold(sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4}, 0)); got != fold(0x0001+0xf203+0xf400) {
		t.Errorf("the sum of an odd number of bytes is %#x", got)
	}
}

func FuzzParsePacket(f *testing.F) {
	for _, c := range []struct{ src, dst netip.Addr }{{a4, b4}, {a6, b6}} {
		b := udpPacket(c.src, c.dst, make([]byte, 40))
		f.Add(b)
		for _, p := range fragments(b, c.src.Is6(), 16) {
			f.Add(p.bytes)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parsePacket(b)
		if !ok {
			return
		}
		if len(p.bytes) > len(b) || p.header > len(p.bytes) || p.src.Is4() != p.dst.Is4() {
			t.Fatalf("%+v", p)
		}
		if _, _, payload, ok := parseUDP(p.payload()); ok && len(payload) > len(b) {
			t.Fatalf("%d bytes of payload in %d", len(payload), len(b))
		}
		_, _ = parseEcho(p.src.Is6(), p.payload())
	})
}

// FuzzReassembly gives fragments whose place, size and end the input says, and
// checks what becomes of them against the bytes that it knows must be there.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 2, 0})
	f.Add([]byte{0, 1, 1, 1, 0, 2, 1, 0, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		var r reassembler
		now := time.Now()
		for i := 0; i+2 < len(script); i += 3 {
			offset, size, flags := int(script[i])*8*8, int(script[i+1])+1, script[i+2]
			b := appendIP(nil, a4, b4, protoUDP, size, uint16(flags>>1&3))
			for j := range size {
				b = append(b, byte(offset+j))
			}
			p, ok := parsePacket(b)
			if !ok {
				t.Fatal("a packet does not parse")
			}
			p.fragment = fragment{is: true, more: flags&1 != 0, offset: offset, id: uint32(flags >> 1 & 3)}
			whole, ok := r.add(&p, now)
			if !ok {
				continue
			}
			for j, x := range whole.payload() {
				if x != byte(j) {
					t.Fatalf("byte %d is %d", j, x)
				}
			}
		}
		if len(r.parts) != r.order.Len() || len(r.parts) > 4 {
			t.Fatalf("%d and %d packets are kept", len(r.parts), r.order.Len())
		}
	})
}
