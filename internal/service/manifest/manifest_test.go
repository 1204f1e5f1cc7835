package manifest

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"bake/internal/wire"
)

func TestServeOnce(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	before := time.Now().UnixNano()
	go func() {
		done <- Serve(t.Context(), ln, wire.BootManifest{Hostname: "h", Process: wire.Process{Args: []string{"a", "b"}}})
	}()
	conn, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m, err := wire.ReadManifest(conn)
	if err != nil {
		t.Fatal(err)
	}
	if m.Hostname != "h" || len(m.Process.Args) != 2 {
		t.Errorf("got %+v", m)
	}
	if m.UnixNano < before {
		t.Errorf("the time %d is before the test began, %d", m.UnixNano, before)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if conn, err := net.Dial("unix", ln.Addr().String()); err == nil {
		conn.Close()
		t.Error("a second reader could connect")
	}
}

func TestServeEndsWithContext(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, wire.BootManifest{}) }()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve after cancel: %v", err)
	}
}
