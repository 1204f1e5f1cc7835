package hostnet

import (
	"container/list"
	"net/netip"
	"time"
)

const (
	// reassemblies bounds what is incomplete, and with maxPayload its memory.
	reassemblies = 32
	// reassemblyTime is how long the rest of a packet may take (RFC 791, 3.2
	// says 15 s at least; RFC 8200, 4.5 says 60 s at most).
	reassemblyTime = 30 * time.Second
	maxPayload     = 65535
)

// A reassembler puts fragments together (RFC 791, 3.2; RFC 8200, 4.5). It has
// one user at a time.
type reassembler struct {
	parts map[fragmentKey]*list.Element
	order list.List // of *partial, the oldest first
}

type fragmentKey struct {
	src, dst netip.Addr
	proto    byte
	id       uint32
}

// A partial packet has the first fragment's header and what has come of the
// payload.
type partial struct {
	key     fragmentKey
	began   time.Time
	first   packet // its header, once it has come
	payload []byte
	have    [(maxPayload + 8) / 8]bool // blocks of 8 bytes
	blocks  int                        // of have
	total   int                        // of the payload; -1 until the last has come
}

// add takes a fragment and returns the whole packet that it completes.
// Fragments that overlap end the packet (RFC 5722).
func (r *reassembler) add(p *packet, now time.Time) (packet, bool) {
	r.expire(now)
	data, f := p.payload(), p.fragment
	end := f.offset + len(data)
	if len(data) == 0 || end > maxPayload || f.more && len(data)%8 != 0 {
		return packet{}, false
	}
	key := fragmentKey{p.src, p.dst, p.proto, f.id}
	if p.dst.Is6() {
		key.proto = 0
	}
	e := r.parts[key]
	if e == nil {
		if r.parts == nil {
			r.parts = map[fragmentKey]*list.Element{}
		}
		if r.order.Len() >= reassemblies {
			r.remove(r.order.Front())
		}
		e = r.order.PushBack(&partial{key: key, began: now, total: -1})
		r.parts[key] = e
	}
	w := e.Value.(*partial)
	if !w.add(p, end) {
		r.remove(e)
		return packet{}, false
	}
	if w.total < 0 || w.blocks != (w.total+7)/8 {
		return packet{}, false
	}
	r.remove(e)
	whole := w.first
	whole.bytes = append(whole.bytes[:whole.header:whole.header], w.payload[:w.total]...)
	whole.fragment = fragment{}
	return whole, true
}

func (w *partial) add(p *packet, end int) bool {
	f := p.fragment
	if w.total >= 0 && (end > w.total || !f.more) {
		return false
	}
	if !f.more {
		if len(w.payload) > end {
			return false
		}
		w.total = end
	}
	for i := f.offset / 8; i < (end+7)/8; i++ {
		if w.have[i] {
			return false
		}
		w.have[i] = true
		w.blocks++
	}
	if f.offset == 0 {
		w.first = *p
		w.first.bytes = append([]byte(nil), p.bytes[:p.header]...)
	}
	if end > len(w.payload) {
		if end > cap(w.payload) {
			grown := make([]byte, end, maxPayload)
			copy(grown, w.payload)
			w.payload = grown
		}
		w.payload = w.payload[:end]
	}
	copy(w.payload[f.offset:], p.payload())
	return true
}

func (r *reassembler) expire(now time.Time) {
	for e := r.order.Front(); e != nil && now.Sub(e.Value.(*partial).began) > reassemblyTime; e = r.order.Front() {
		r.remove(e)
	}
}

func (r *reassembler) remove(e *list.Element) {
	delete(r.parts, e.Value.(*partial).key)
	r.order.Remove(e)
}
