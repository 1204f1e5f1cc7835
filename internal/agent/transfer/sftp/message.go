//go:build linux

package sftp

import (
	"encoding/binary"
	"errors"
)

// errMalformed is a request that ends before all of it is there.
var errMalformed = errors.New("the request is malformed")

// A decoder reads a packet's fields, section 3 of RFC 4251. Behind its end all are
// zero, and short is set.
type decoder struct {
	b     []byte
	short bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.b, d.short = nil, true
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) uint8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes is a string that is good until the next packet.
func (d *decoder) bytes() []byte {
	n := d.uint32()
	if n > maxPacket {
		d.b, d.short = nil, true
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) string() string { return string(d.bytes()) }

// An encoder builds a packet.
type encoder struct{ b []byte }

// begin starts a packet; its length is filled in by packet.
func (e *encoder) begin(kind uint8, id uint32) {
	e.b = append(e.b[:0], 0, 0, 0, 0, kind)
	e.uint32(id)
}

func (e *encoder) uint8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) uint32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *encoder) uint64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }

func (e *encoder) string(s string) {
	e.uint32(uint32(len(s)))
	e.b = append(e.b, s...)
}

// packet is what goes to the client.
func (e *encoder) packet() []byte {
	binary.BigEndian.PutUint32(e.b, uint32(len(e.b)-4))
	return e.b
}
