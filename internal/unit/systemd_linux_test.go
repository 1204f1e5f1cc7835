package unit

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSystemdVerify asks systemd itself, which starts nothing for it.
func TestSystemdVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatalf("make deps-test installs what this asks: %v", err)
	}
	dir := t.TempDir()
	a := sample(slices.Concat(hostile, control)...)
	a.Exe = filepath.Join(dir, "an app 100% $x")
	if err := os.WriteFile(a.Exe, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]SystemdOptions{"system": {}, "user": {User: true}} {
		data, err := Systemd(a, o)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name+".service")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", file)
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), name+".service") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
