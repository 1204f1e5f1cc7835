//go:build boot && linux

package boottest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bake/internal/vsock"
	"bake/internal/wire"
)

// embed makes a file that has another one at an offset, and noise around it.
func embed(t *testing.T, path string, offset int) (string, int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "disk")
	noise := make([]byte, offset)
	for i := range noise {
		noise[i] = 0xa5
	}
	all := append(append(noise, b...), noise...)
	if err := os.WriteFile(out, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return out, int64(len(b))
}

// throughPort sends text to a server in the guest and returns all it answers.
func (g *guest) throughPort(port int, text string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := g.sock.Dial(ctx, wire.PortSOCKS)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	request := []byte{5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, byte(port >> 8), byte(port)}
	if _, err := conn.Write(request); err != nil {
		return "", err
	}
	answer := make([]byte, 2+10)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return "", err
	}
	if answer[3] != 0 {
		return "", fmt.Errorf("reply %d", answer[3])
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(vsock.Conn).CloseWrite(); err != nil {
		return "", err
	}
	all, err := io.ReadAll(conn)
	return string(all), err
}
