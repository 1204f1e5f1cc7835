package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"reflect"
	"testing"
	"testing/iotest"
	"time"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// someDatagrams have every kind, both families and all lengths that matter.
func someDatagrams() []Datagram {
	long := bytes.Repeat([]byte("0123456789abcdef"), MaxDatagram/16+1)[:MaxDatagram]
	return []Datagram{
		{Kind: DatagramUDP, Source: addrPort("198.18.0.1:40000"), Destination: addrPort("192.0.2.1:53"), Payload: []byte("x")},
		{Kind: DatagramUDP, Source: addrPort("[fd62:616b:6500::1]:1"), Destination: addrPort("[2001:db8::ffff]:65535"), Payload: []byte{}},
		{Kind: DatagramUDP, Source: addrPort("0.0.0.0:0"), Destination: addrPort("255.255.255.255:65535"), Payload: long},
		{Kind: DatagramUDP, Source: addrPort("[::]:0"), Destination: addrPort("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:1"), Payload: long[:60000]},
		{Kind: DatagramUnreachable, Code: UnreachablePort, Flow: uint32(DatagramEcho), Source: addrPort("198.18.0.1:7"), Destination: addrPort("192.0.2.1:9"), Payload: []byte{}},
		{Kind: DatagramEcho, Source: addrPort("198.18.0.1:7"), Destination: addrPort("192.0.2.1:9"), Payload: long[:56]},
		{Kind: DatagramPublished, Code: 0xffff, Flow: 0xfffffffe, Source: addrPort("[::1]:9"), Destination: addrPort("[::1]:80"), Payload: long[:1400]},
	}
}

func TestDatagramRoundTrip(t *testing.T) {
	for _, want := range someDatagrams() {
		prefix := []byte("before")
		b, err := AppendDatagram(prefix, &want)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != len(prefix)+want.FrameLen() || string(b[:len(prefix)]) != "before" {
			t.Fatalf("a frame of %d bytes was appended to %q, FrameLen is %d", len(b)-len(prefix), b[:len(prefix)], want.FrameLen())
		}
		b = b[len(prefix):]
		if n := binary.BigEndian.Uint32(b); int(n) != len(b)-4 {
			t.Errorf("the frame announces %d bytes and has %d", n, len(b)-4)
		}
		got, err := ParseDatagram(b[4:])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
}

// The layout is what the other side, perhaps of another version, reads.
func TestDatagramLayout(t *testing.T) {
	b, err := AppendDatagram(make([]byte, 0, 100), &Datagram{
		Kind: DatagramPublished, Code: 0x0102, Flow: 0x03040506,
		Source: addrPort("1.2.3.4:2571"), Destination: addrPort("5.6.7.8:80"), Payload: []byte("hi"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "\x00\x00\x00\x2e" + "\x04\x04\x01\x02\x03\x04\x05\x06" +
		"\x01\x02\x03\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0a\x0b" +
		"\x05\x06\x07\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x50" + "hi"
	if string(b) != want {
		t.Errorf("got  %x\nwant %x", b, want)
	}
}

func TestAppendDatagramRefuses(t *testing.T) {
	v4, v6 := addrPort("192.0.2.1:1"), addrPort("[2001:db8::1]:1")
	for name, d := range map[string]Datagram{
		"too long":         {Kind: DatagramUDP, Source: v4, Destination: v4, Payload: make([]byte, MaxDatagram+1)},
		"two families":     {Kind: DatagramUDP, Source: v4, Destination: v6},
		"no source":        {Kind: DatagramUDP, Destination: v6},
		"no address":       {Kind: DatagramUDP},
		"mapped":           {Kind: DatagramUDP, Source: v6, Destination: addrPort("[::ffff:192.0.2.1]:1")},
		"zone":             {Kind: DatagramUDP, Source: v6, Destination: addrPort("[fe80::1%1]:1")},
		"no kind":          {Source: v4, Destination: v4},
		"kind out of list": {Kind: DatagramPublished + 1, Source: v4, Destination: v4},
	} {
		if b, err := AppendDatagram([]byte("kept"), &d); err == nil || string(b) != "kept" {
			t.Errorf("%s: appended to %q, error %v", name, b, err)
		}
	}
}

func TestParseDatagramRefuses(t *testing.T) {
	good, err := AppendDatagram(nil, &Datagram{Kind: DatagramUDP, Source: addrPort("192.0.2.1:1"), Destination: addrPort("192.0.2.2:1")})
	if err != nil {
		t.Fatal(err)
	}
	good = good[4:]
	for name, change := range map[string]func([]byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"short":            func(b []byte) []byte { return b[:datagramHeader-1] },
		"long":             func(b []byte) []byte { return append(b, make([]byte, MaxDatagram+1)...) },
		"kind 0":           func(b []byte) []byte { b[0] = 0; return b },
		"kind 5":           func(b []byte) []byte { b[0] = 5; return b },
		"no family":        func(b []byte) []byte { b[1] = 5; return b },
		"IPv4 with a tail": func(b []byte) []byte { b[8+15] = 1; return b },
		"mapped": func(b []byte) []byte {
			b[1] = 6
			copy(b[8:], []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1})
			return b
		},
	} {
		if d, err := ParseDatagram(change(bytes.Clone(good))); err == nil {
			t.Errorf("%s: read as %v", name, d)
		}
	}
}

func TestDatagramReader(t *testing.T) {
	var stream []byte
	var want []Datagram
	for range 3 { // more than the reader's buffer
		for _, d := range someDatagrams() {
			var err error
			if stream, err = AppendDatagram(stream, &d); err != nil {
				t.Fatal(err)
			}
			want = append(want, d)
		}
	}
	for name, r := range map[string]io.Reader{
		"whole":       bytes.NewReader(stream),
		"one byte":    iotest.OneByteReader(bytes.NewReader(stream)),
		"half":        iotest.HalfReader(bytes.NewReader(stream)),
		"end at once": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		frames := NewDatagramReader(r)
		for i, w := range want {
			var d Datagram
			if err := frames.Next(&d); err != nil || !reflect.DeepEqual(d, w) {
				t.Fatalf("%s: frame %d: got a kind %d with %d bytes, %v; want kind %d with %d bytes", name, i, d.Kind, len(d.Payload), err, w.Kind, len(w.Payload))
			}
		}
		if err := frames.Next(new(Datagram)); err != io.EOF {
			t.Errorf("%s: at the end: %v, want io.EOF", name, err)
		}
	}
}

// What was read while Buffered was true stays until the next read.
func TestDatagramReaderKeepsBuffered(t *testing.T) {
	var stream []byte
	for _, s := range []string{"first", "second", "third"} {
		stream, _ = AppendDatagram(stream, &Datagram{Kind: DatagramUDP, Source: addrPort("1.2.3.4:1"), Destination: addrPort("1.2.3.4:2"), Payload: []byte(s)})
	}
	r := NewDatagramReader(bytes.NewReader(stream))
	var got [3]Datagram
	for i := range got {
		if i > 0 && !r.Buffered() {
			t.Fatalf("frame %d is not buffered, though one read gave all", i)
		}
		if err := r.Next(&got[i]); err != nil {
			t.Fatal(err)
		}
	}
	if r.Buffered() {
		t.Error("a frame is said to be buffered behind the last one")
	}
	if string(got[0].Payload)+string(got[1].Payload)+string(got[2].Payload) != "firstsecondthird" {
		t.Errorf("got %q, %q, %q", got[0].Payload, got[1].Payload, got[2].Payload)
	}
}

func TestDatagramReaderRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want error
	}{
		"too long":      {"\x00\x01\x00\x11", ErrFrameTooLong},
		"absurd":        {"\xff\xff\xff\xff", ErrFrameTooLong},
		"cut in length": {"\x00\x00", io.ErrUnexpectedEOF},
		"cut in body":   {"\x00\x00\x00\x2cab", io.ErrUnexpectedEOF},
		"short body":    {"\x00\x00\x00\x02ab", errDatagram},
	} {
		if err := NewDatagramReader(bytes.NewReader([]byte(tt.in))).Next(new(Datagram)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// writes passes on what one Write call gets.
type writes chan []byte

func (w writes) Write(b []byte) (int, error) {
	w <- bytes.Clone(b)
	return len(b), nil
}

func TestDatagramQueue(t *testing.T) {
	d := &Datagram{Kind: DatagramUDP, Source: addrPort("1.2.3.4:1"), Destination: addrPort("1.2.3.4:2"), Payload: []byte("0123456789")}
	q := NewDatagramQueue(3 * d.FrameLen())
	for i := range 5 {
		if got, want := q.Put(d), i < 3; got != want {
			t.Errorf("put %d: %v, want %v", i, got, want)
		}
	}
	if q.Put(&Datagram{Kind: DatagramUDP}) {
		t.Error("a datagram without addresses was taken")
	}
	if q.Dropped() != 3 || q.Len() != 3*d.FrameLen() {
		t.Errorf("%d dropped, %d bytes wait; want 3 and %d", q.Dropped(), q.Len(), 3*d.FrameLen())
	}

	ctx, cancel := context.WithCancel(t.Context())
	w := make(writes)
	done := make(chan error, 1)
	go func() { done <- q.Write(ctx, w) }()
	if b := <-w; len(b) != 3*d.FrameLen() {
		t.Errorf("one write of %d bytes, want all %d that waited", len(b), 3*d.FrameLen())
	}
	for range 100 { // the two buffers take turns
		if !q.Put(d) {
			t.Fatal("a queue that is being written took nothing")
		}
		b := <-w
		if got, err := ParseDatagram(b[4:]); err != nil || !reflect.DeepEqual(got, *d) {
			t.Fatalf("written: %v, %v", got, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("a cancelled Write: %v", err)
	}

	// What is put while nobody writes waits for the next writer.
	q.Put(d)
	r, broken := io.Pipe()
	r.Close()
	if err := q.Write(t.Context(), broken); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a write that failed: %v", err)
	}
}

// Who waits for room gets it when the writer takes what is there, and drops
// when the writer does not.
func TestDatagramQueueWaits(t *testing.T) {
	d := &Datagram{Kind: DatagramUDP, Source: addrPort("1.2.3.4:1"), Destination: addrPort("1.2.3.4:2"), Payload: []byte("0123456789")}
	q := NewDatagramQueue(2 * d.FrameLen())
	const count = 1000
	put := make(chan int, 4)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := make(writes)
	done := make(chan error, 1)
	go func() { done <- q.Write(ctx, w) }()
	for range cap(put) {
		go func() {
			n := 0
			for range count {
				if q.PutWithin(d, time.Minute) {
					n++
				}
			}
			put <- n
		}()
	}
	for bytes := 0; bytes < cap(put)*count*d.FrameLen(); {
		bytes += len(<-w)
	}
	for range cap(put) {
		if n := <-put; n != count {
			t.Errorf("%d of %d were put", n, count)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Without a writer the first waits in vain, and the others do not wait:
	// their time would outlast the test's.
	for range 2 {
		q.Put(d)
	}
	if q.PutWithin(d, time.Millisecond) {
		t.Error("a full queue took more")
	}
	for range 1000 {
		if q.PutWithin(d, time.Hour) {
			t.Error("a full queue took more")
		}
	}
}

func TestDatagramsAllocateNothing(t *testing.T) {
	d := someDatagrams()[0]
	buf := make([]byte, 0, d.FrameLen())
	if n := testing.AllocsPerRun(100, func() { buf, _ = AppendDatagram(buf[:0], &d) }); n != 0 {
		t.Errorf("AppendDatagram allocates %v times", n)
	}
	body := buf[4:]
	if n := testing.AllocsPerRun(100, func() { d, _ = ParseDatagram(body) }); n != 0 {
		t.Errorf("ParseDatagram allocates %v times", n)
	}
}

func FuzzParseDatagram(f *testing.F) {
	for _, d := range someDatagrams() {
		d.Payload = d.Payload[:min(len(d.Payload), 64)]
		b, _ := AppendDatagram(nil, &d)
		f.Add(b[4:])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := ParseDatagram(body)
		if err != nil {
			return
		}
		b, err := AppendDatagram(nil, &d)
		if err != nil || !bytes.Equal(b[4:], body) {
			t.Errorf("%x was read as %v and written as %x, %v", body, d, b, err)
		}
	})
}

// However the stream is cut into reads, the frames are the same.
func FuzzDatagramReader(f *testing.F) {
	var stream []byte
	for _, d := range someDatagrams()[4:6] {
		stream, _ = AppendDatagram(stream, &d)
	}
	f.Add(stream)
	f.Add(append(bytes.Clone(stream), 0, 0, 0, 44, 1))
	f.Add([]byte{0, 1, 0, 16})
	f.Fuzz(func(t *testing.T, stream []byte) {
		read := func(r io.Reader) (out []Datagram, last string) {
			frames := NewDatagramReader(r)
			for {
				var d Datagram
				if err := frames.Next(&d); err != nil {
					return out, err.Error()
				}
				d.Payload = bytes.Clone(d.Payload)
				out = append(out, d)
			}
		}
		whole, end := read(bytes.NewReader(stream))
		single, end1 := read(iotest.OneByteReader(bytes.NewReader(stream)))
		if !reflect.DeepEqual(whole, single) || end != end1 {
			t.Errorf("read whole: %v, %s; byte by byte: %v, %s", whole, end, single, end1)
		}
	})
}

func BenchmarkAppendDatagram(b *testing.B) {
	d := someDatagrams()[6]
	buf := make([]byte, 0, d.FrameLen())
	b.SetBytes(int64(len(d.Payload)))
	for b.Loop() {
		buf, _ = AppendDatagram(buf[:0], &d)
	}
}
