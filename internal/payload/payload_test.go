package payload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	sources := testSources(t)
	const off = 3 * sectorSize
	file := append(make([]byte, off), writePayload(t, sources)...)
	p, err := Open(bytes.NewReader(file), off, int64(len(file)-off))
	if err != nil {
		t.Fatal(err)
	}
	if p.Offset() != off || p.Size() != int64(len(file)-off) || p.Size()%Align != 0 {
		t.Errorf("payload is at %d, %d bytes; file has %d", p.Offset(), p.Size(), len(file))
	}
	if want, err := Size(sources); err != nil || want != p.Size() {
		t.Errorf("Size says %d, %v; written were %d", want, err, p.Size())
	}
	if got := len(p.Parts()); got != len(sources) {
		t.Fatalf("%d parts, want %d", got, len(sources))
	}
	for i, part := range p.Parts() {
		want := contents(t, sources[i])
		got, err := p.ReadAll(part.Name, part.Size)
		if err != nil || !bytes.Equal(got, want) || part.Name != sources[i].Name || part.SHA256 != sha256.Sum256(want) {
			t.Errorf("part %q: differs from what was written (%v)", part.Name, err)
		}
		at, size, err := p.FileOffset(part.Name)
		if err != nil || (at-off)%Align != 0 || !bytes.Equal(file[at:at+size], want) {
			t.Errorf("part %q: not at its FileOffset %d (%v)", part.Name, at, err)
		}
		r, err := p.Section(part.Name)
		if err != nil || r.Size() != part.Size {
			t.Errorf("part %q: section %v, %v", part.Name, r, err)
		}
	}
	if m, err := p.Manifest(); err != nil || m.Image.Ref != testManifest().Image.Ref {
		t.Errorf("manifest %+v, %v", m, err)
	}
	if err := p.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMissingPart(t *testing.T) {
	b := writePayload(t, nil)
	p, err := Open(bytes.NewReader(b), 0, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	_, section := p.Section("kernel")
	_, _, offset := p.FileOffset("kernel")
	_, all := p.ReadAll("kernel", 1)
	for _, err := range []error{section, offset, all, p.VerifyPart(t.Context(), "kernel")} {
		wantError(t, err, `no part named "kernel"`)
	}
}

func TestReadAllLimit(t *testing.T) {
	b := writePayload(t, testSources(t))
	p, err := Open(bytes.NewReader(b), 0, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.ReadAll("block", Align-1)
	wantError(t, err, "more than the 65535")
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	sources := testSources(t)
	b := writePayload(t, sources)
	open := func() *Payload {
		p, err := Open(bytes.NewReader(b), 0, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, part := range open().Parts() {
		if part.Size == 0 {
			continue
		}
		for _, at := range []int64{part.Offset, part.Offset + part.Size - 1} {
			b[at] ^= 1
			wantError(t, open().Verify(t.Context()), `"`+part.Name+`" does not match its hash`)
			_, err := open().ReadAll(part.Name, part.Size)
			wantError(t, err, "does not match its hash")
			b[at] ^= 1
		}
	}
	for _, at := range []int{HeaderSize, Align - 1, len(b) - 1} {
		b[at] ^= 1
		wantError(t, open().Verify(t.Context()), "foreign data")
		b[at] ^= 1
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open().Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := writePayload(t, testSources(t))
	entry := func(b []byte, i int) []byte { return b[tableStart+i*entrySize:][:entrySize] }
	put := func(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }
	for _, test := range []struct {
		name   string
		change func([]byte) []byte // of the header's bytes, hashed again
		want   string
	}{
		{"magic", func(b []byte) []byte { b[3] ^= 1; return b }, "magic number"},
		{"newer version", func(b []byte) []byte { b[8] = 2; return b }, "newer bake"},
		{"too many parts", func(b []byte) []byte { b[12] = MaxParts + 1; return b }, "announces 51 parts"},
		{"very many parts", func(b []byte) []byte { b[15] = 0xff; return b }, "parts; it has room"},
		{"fewer parts than entries", func(b []byte) []byte { b[12]--; return b }, "fields that this version leaves empty"},
		{"more parts than entries", func(b []byte) []byte { b[12]++; return b }, "part name"},
		{"reserved field", func(b []byte) []byte { b[24] = 1; return b }, "fields that this version leaves empty"},
		{"reserved field 2", func(b []byte) []byte { b[64] = 1; return b }, "fields that this version leaves empty"},
		{"longer than the file", func(b []byte) []byte { put(b[16:], uint64(len(good)+Align)); return b }, "the file was cut"},
		{"negative length", func(b []byte) []byte { put(b[16:], math.MaxUint64); return b }, "the file was cut"},
		{"shorter than its parts", func(b []byte) []byte { put(b[16:], uint64(len(good)-Align)); return b }, "ends after the payload does"},
		{"zero length", func(b []byte) []byte { put(b[16:], 0); return b }, "ends after the payload does"},
		{"duplicate name", func(b []byte) []byte { copy(entry(b, 1)[:nameField], entry(b, 0)[:nameField]); return b }, "two parts named"},
		{"bad name", func(b []byte) []byte { entry(b, 1)[0] = '/'; return b }, "something else in it"},
		{"name with data behind its NUL", func(b []byte) []byte { entry(b, 1)[20] = 'x'; return b }, "malformed"},
		{"name without end", func(b []byte) []byte { copy(entry(b, 1), strings.Repeat("x", nameField)); return b }, "not 1 to 31"},
		{"part beyond the end", func(b []byte) []byte { put(entry(b, 4)[40:], uint64(len(good))); return b }, "ends after the payload"},
		{"part offset overflows", func(b []byte) []byte { put(entry(b, 4)[32:], math.MaxUint64-10); return b }, "ends after the payload"},
		{"overlap", func(b []byte) []byte { put(entry(b, 4)[32:], Align); return b }, "follows from the parts before it"},
		{"hole", func(b []byte) []byte { put(entry(b, 3)[40:], 1); return b[:] }, ""},
		{"unaligned part", func(b []byte) []byte { put(entry(b, 0)[32:], Align+1); return b }, "follows from the parts before it"},
		{"in the header", func(b []byte) []byte { put(entry(b, 0)[32:], 0); return b }, "follows from the parts before it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := slices.Clone(good)
			header := test.change(b[:HeaderSize])
			clear(header[hashStart : hashStart+sha256.Size])
			sum := sha256.Sum256(header)
			copy(header[hashStart:], sum[:])
			p, err := Open(bytes.NewReader(b), 0, int64(len(b)))
			if test.want == "" { // well formed: the hash of the part finds it
				if err != nil {
					t.Fatal(err)
				}
				wantError(t, p.Verify(t.Context()), "does not match its hash")
				return
			}
			wantError(t, err, test.want)
		})
	}
	t.Run("hash", func(t *testing.T) {
		b := slices.Clone(good)
		entry(b, 0)[50] ^= 1
		_, err := Open(bytes.NewReader(b), 0, int64(len(b)))
		wantError(t, err, "its own hash")
	})
	for _, test := range []struct {
		name      string
		off, size int64
		want      string
	}{
		{"negative offset", -512, int64(len(good)), "cannot be at offset"},
		{"negative size", 0, -1, "cannot be at offset"},
		{"overflow", math.MaxInt64 - 511, 512, "cannot be at offset"},
		{"too short", 0, Align - 1, "too short"},
		{"less than the header says", 0, int64(len(good)) - 1, "the file was cut"},
		{"unaligned", 1, int64(len(good)), "not a multiple of 512"},
		{"outside", 512 * 1000, int64(len(good)), "the file ends before that"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Open(bytes.NewReader(good), test.off, test.size)
			wantError(t, err, test.want)
		})
	}
	t.Run("cut", func(t *testing.T) {
		_, err := Open(bytes.NewReader(good[:len(good)-1]), 0, int64(len(good)))
		wantError(t, err, "it was cut")
	})
	t.Run("newer is told apart", func(t *testing.T) {
		b := slices.Clone(good)
		b[8] = 9
		if _, err := Open(bytes.NewReader(b), 0, int64(len(b))); !errors.Is(err, ErrNewer) {
			t.Errorf("%v is not ErrNewer", err)
		}
	})
}

// FuzzOpen feeds headers, hashed again so that the checks behind the hash are reached.
func FuzzOpen(f *testing.F) {
	good := writePayload(f, testSources(f))
	f.Add(good[:HeaderSize], true)
	f.Add(good[:HeaderSize], false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, header []byte, rehash bool) {
		b := slices.Clone(good)
		if copy(b[:HeaderSize], header); rehash {
			clear(b[hashStart : hashStart+sha256.Size])
			sum := sha256.Sum256(b[:HeaderSize])
			copy(b[hashStart:], sum[:])
		}
		p, err := Open(bytes.NewReader(b), 0, int64(len(b)))
		if err != nil {
			return
		}
		end := int64(Align)
		for _, part := range p.Parts() {
			if part.Offset < end || part.Size < 0 || part.Offset+part.Size > p.Size() {
				t.Fatalf("part %+v is not between %d and %d", part, end, p.Size())
			}
			end = part.Offset + part.Size
			if _, err := p.ReadAll(part.Name, p.Size()); err == nil && sha256.Sum256(b[part.Offset:end]) != part.SHA256 {
				t.Fatalf("part %+v read with a wrong hash", part)
			}
		}
		_ = p.Verify(t.Context())
	})
}

func TestFileRefusesWhatIsNoApp(t *testing.T) {
	text := tempFile(t)
	if _, err := text.WriteString("#!/bin/sh\necho hello\n"); err != nil {
		t.Fatal(err)
	}
	empty := tempFile(t)
	for _, path := range []string{text.Name(), empty.Name(), t.TempDir(), os.DevNull} {
		if f, err := OpenFile(path); !errors.Is(err, ErrNoPayload) {
			t.Errorf("%s: %v, %v; want ErrNoPayload", path, f, err)
		}
	}
	if _, err := OpenFile(text.Name() + ".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := OpenSelf(); !errors.Is(err, ErrNoPayload) {
		t.Errorf("the test itself: %v; want ErrNoPayload", err)
	}
}
