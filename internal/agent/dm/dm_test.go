//go:build linux

package dm

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// The numbers are those that a C compiler gives for linux/dm-ioctl.h.
func TestRequestNumbers(t *testing.T) {
	for cmd, want := range map[uintptr]uintptr{
		cmdDevCreate:  0xc138fd03, // DM_DEV_CREATE
		cmdDevSuspend: 0xc138fd06, // DM_DEV_SUSPEND
		cmdTableLoad:  0xc138fd09, // DM_TABLE_LOAD
	} {
		if got := request(cmd); got != want {
			t.Errorf("request %d is %#x, want %#x", cmd, got, want)
		}
	}
}

func TestLoadRequest(t *testing.T) {
	b := loadRequest(Linear{Name: "rootfs", Major: 254, Minor: 16, Start: 384, Length: 0x1_0000_0001})
	e := binary.NativeEndian
	if len(b)%8 != 0 || int(e.Uint32(b[12:])) != len(b) {
		t.Errorf("%d bytes, and data_size says %d", len(b), e.Uint32(b[12:]))
	}
	for _, f := range []struct {
		name      string
		at        int
		got, want uint64
	}{
		{name: "version", at: 0, want: 4},
		{name: "data_start", at: 16, want: headerSize},
		{name: "target_count", at: 20, want: 1},
		{name: "flags", at: 28, want: flagReadOnly},
		{name: "status", at: headerSize + 16, want: 0},
	} {
		if got := uint64(e.Uint32(b[f.at:])); got != f.want {
			t.Errorf("%s is %d, want %d", f.name, got, f.want)
		}
	}
	if name := cString(b[48:]); name != "rootfs" {
		t.Errorf("name is %q", name)
	}
	spec := b[headerSize:]
	if start, length := e.Uint64(spec), e.Uint64(spec[8:]); start != 0 || length != 0x1_0000_0001 {
		t.Errorf("the target covers %d sectors from %d", length, start)
	}
	if next := int(e.Uint32(spec[20:])); next != len(spec) {
		t.Errorf("next is %d, and the target is %d bytes", next, len(spec))
	}
	if typ, params := cString(spec[24:40]), cString(spec[targetSize:]); typ != "linear" || params != "254:16 384" {
		t.Errorf("the target is %q with %q", typ, params)
	}
}

func TestLongNames(t *testing.T) {
	for _, name := range []string{"", strings.Repeat("x", nameSize)} {
		if _, err := CreateLinear(Linear{Name: name}); err == nil || !strings.Contains(err.Error(), "name") {
			t.Errorf("a name of %d bytes: %v", len(name), err)
		}
	}
	if b := header(strings.Repeat("x", 300), 0, 0, 0); b[48+nameSize-1] != 0 {
		t.Error("a long name is not terminated")
	}
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
