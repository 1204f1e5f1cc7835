//go:build linux

package vhostuser

import (
	"bytes"
	"math/rand"
	"testing"
)

// The buffer against a slice, with random pieces.
func TestBuffer(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	var f buffer
	var model []byte
	next := byte(0)
	for range 5000 {
		if free := bufAlloc - len(model); rng.Intn(2) == 0 && free > 0 {
			p := make([]byte, rng.Intn(min(free, 1+rng.Intn(bufAlloc))+1))
			for i := range p {
				p[i] = next
				next++
			}
			f.write(p)
			model = append(model, p...)
		} else {
			k := rng.Intn(len(model) + 1)
			f.discard(k)
			model = model[k:]
		}
		first, second := f.bytes()
		if f.len() != len(model) || !bytes.Equal(append(bytes.Clone(first), second...), model) {
			t.Fatalf("%d bytes, want %d, or others", f.len(), len(model))
		}
		if len(f.b) > bufAlloc || len(model) == 0 && f.b != nil {
			t.Fatalf("%d bytes of memory for %d", len(f.b), len(model))
		}
	}
}
