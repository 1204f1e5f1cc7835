package app

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"bake/internal/instance"
)

func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := newLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l.limit = 10
	var all []byte
	for i, part := range []string{"abc", "", "defghijklm\x00\xff", "0123456789012345678901234", "end"} {
		all = append(all, part...)
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		newest, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		older, err := os.ReadFile(path + instance.OlderLog)
		if err != nil && i > 1 {
			t.Fatal(err)
		}
		// Both are the end of what was written, and no longer than they may be.
		if got := append(older, newest...); !bytes.HasSuffix(all, got) || len(newest) > 10 || len(older) > 10 || len(got) < min(len(all), 10) {
			t.Errorf("after %q they hold %q and %q", all, older, newest)
		}
	}
	// A directory that is gone loses output and nothing else.
	os.RemoveAll(filepath.Dir(path))
	if n, err := l.Write(make([]byte, 100)); n != 100 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	if n, err := l.Write([]byte("late")); n != 4 || err != nil {
		t.Errorf("Write after the end = %d, %v", n, err)
	}
}
