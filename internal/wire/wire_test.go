package wire

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestFrames(t *testing.T) {
	var buf bytes.Buffer
	for _, body := range []string{"", "a", strings.Repeat("x", 100)} {
		if err := WriteFrame(&buf, []byte(body), 100); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"", "a", strings.Repeat("x", 100)} {
		got, err := ReadFrame(&buf, 100)
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	if _, err := ReadFrame(&buf, 100); err != io.EOF {
		t.Errorf("after the last frame: %v, want io.EOF", err)
	}
}

func TestFrameBounds(t *testing.T) {
	if err := WriteFrame(io.Discard, make([]byte, 11), 10); !errors.Is(err, ErrFrameTooLong) {
		t.Errorf("a long frame was written: %v", err)
	}
	for name, tt := range map[string]struct {
		in   string
		want error
	}{
		"too long":         {"\x00\x00\x00\x0b0123456789x", ErrFrameTooLong},
		"absurd":           {"\xff\xff\xff\xff", ErrFrameTooLong},
		"cut in length":    {"\x00\x00", io.ErrUnexpectedEOF},
		"cut in body":      {"\x00\x00\x00\x05ab", io.ErrUnexpectedEOF},
		"cut after length": {"\x00\x00\x00\x05", io.ErrUnexpectedEOF},
	} {
		if _, err := ReadFrame(strings.NewReader(tt.in), 10); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestManifestRoundTrip(t *testing.T) {
	uid := uint32(0)
	m := &BootManifest{
		Version: ManifestVersion, Hostname: "h", UnixNano: 5,
		Rootfs:    Rootfs{Device: "/dev/vda", Type: "erofs", Offset: 512, Size: 1024},
		Ephemeral: Ephemeral{Device: "/dev/vdb", Type: "ext4"},
		Process:   Process{Args: []string{"a", "b\n\xff"}, Env: []string{"A=1"}, UID: &uid, Terminal: true, Rows: 1, Cols: 2},
	}
	m.Process.Args[1] = "b\n<&>"
	var buf bytes.Buffer
	if err := WriteManifest(&buf, m); err != nil {
		t.Fatal(err)
	}
	got, err := ReadManifest(&buf)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v, %v; want %+v", got, err, m)
	}
	m.Version++
	WriteManifest(&buf, m)
	if _, err := ReadManifest(&buf); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("another version: %v", err)
	}
}

func TestConsoleHello(t *testing.T) {
	for _, s := range []Stream{Stdin, Stdout, Stderr, TTY} {
		var buf bytes.Buffer
		if err := WriteConsoleHello(&buf, s); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadConsoleHello(&buf); err != nil || got != s {
			t.Errorf("got %q, %v; want %q", got, err, s)
		}
	}
	var buf bytes.Buffer
	WriteConsoleHello(&buf, "root\x1b[2J")
	if _, err := ReadConsoleHello(&buf); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("an unknown stream: %v", err)
	}
}

func FuzzDecoders(f *testing.F) {
	var buf bytes.Buffer
	WriteManifest(&buf, &BootManifest{Version: ManifestVersion, Process: Process{Args: []string{"sh"}}})
	f.Add(buf.Bytes())
	buf.Reset()
	WriteGuestMessage(&buf, GuestMessage{Type: GuestExit, Code: 1})
	WriteHostMessage(&buf, HostMessage{Type: HostSignal, Signal: "SIGTERM"})
	WriteConsoleHello(&buf, Stdin)
	f.Add(buf.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ReadManifest(bytes.NewReader(b)); err == nil && m.Version != ManifestVersion {
			t.Errorf("version %d was accepted", m.Version)
		}
		ReadConsoleHello(bytes.NewReader(b))
		r := bytes.NewReader(b)
		for {
			if _, err := ReadGuestMessage(r); err != nil {
				break
			}
		}
		r.Reset(b)
		for {
			if _, err := ReadHostMessage(r); err != nil {
				break
			}
		}
	})
}
