// Package filestest is for tests that start a file server from their own
// program, which the race detector links in a way that an app is not.
package filestest

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// A Program is the running test's program, linked as an app is: without the
// loader of shared libraries, which a confined process cannot read. Its
// TestMain must be the file server where files.IsRole says so.
type Program struct {
	once sync.Once
	path string
	dir  string // to remove
	err  error
}

// Path builds the program, once, if the running one is not linked that way.
func (p *Program) Path(t *testing.T) string {
	t.Helper()
	p.once.Do(func() { p.err = p.build(t) })
	if p.err != nil {
		t.Fatalf("build the test's program: %v", p.err)
	}
	return p.path
}

func (p *Program) build(t *testing.T) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	self, err := elf.Open(exe)
	if err != nil {
		return err
	}
	defer self.Close()
	if self.Section(".interp") == nil {
		p.path = exe
		return nil
	}
	if p.dir, err = os.MkdirTemp("", "bake-files-test"); err != nil {
		return err
	}
	p.path = filepath.Join(p.dir, "files.test")
	cmd := exec.Command("go", "test", "-c", "-o", p.path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%s", out)
	}
	return err
}

// Remove removes what Path built.
func (p *Program) Remove() {
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}
