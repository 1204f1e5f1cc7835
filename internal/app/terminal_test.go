package app

import (
	"strings"
	"sync"
	"testing"
)

// The services go on saying lines while the terminal is given back, and each
// ends as the terminal needs it then.
func TestLinesWhileTheTerminalIsGivenBack(t *testing.T) {
	var mu sync.Mutex
	var out strings.Builder
	raw := &rawWriter{w: writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	})}
	s := &supervisor{options: Options{Verbose: true}, stderr: raw, term: &terminal{restore: func() {}}}
	s.verbose("before")
	var services sync.WaitGroup
	services.Go(func() {
		for range 100 {
			s.verbose("while")
		}
	})
	s.leaveTerminal()
	services.Wait()
	s.verbose("after")
	if got := out.String(); !strings.HasPrefix(got, "bake: before\r\n") || !strings.HasSuffix(got, "\nbake: after\n") || strings.Count(got, "while") != 100 {
		t.Errorf("the terminal got %q", got)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
