package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestArtifacts(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	a := Artifacts{Dirs: []string{first, second}}
	if _, err := a.Carrier("linux", "arm64"); err == nil || !strings.Contains(err.Error(), "make build initrd") || !strings.Contains(err.Error(), "--input") {
		t.Errorf("without a carrier: %v, want the cures", err)
	}
	want := filepath.Join(second, "bake-app-linux-arm64")
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	// A folder of that name is no carrier.
	if err := os.Mkdir(filepath.Join(first, "bake-app-linux-arm64"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Carrier("linux", "arm64"); err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := a.Initrd("amd64"); err == nil || !strings.Contains(err.Error(), "--initrd") {
		t.Errorf("without an initrd: %v", err)
	}
}
