package payload

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Each of thousands of altered apps gives a clean error or the right contents.
func TestMutations(t *testing.T) {
	sources := testSources(t)
	app := tinyApp(t, sources)
	want := make(map[string][]byte)
	for _, s := range sources {
		want[s.Name] = contents(t, s)
	}
	where, err := Find(bytes.NewReader(app))
	if err != nil {
		t.Fatal(err)
	}
	// Where the tables are, most mutations should go.
	tables := [][2]int{{0, 256}, {int(where.Offset), int(where.Offset) + 1024}, {int(where.Offset + where.Size), len(app)}}
	rng := rand.New(rand.NewPCG(1, 2))
	outcome := make(map[string]int)
	for i := range 4000 {
		b := mutate(rng, slices.Clone(app), tables)
		for range rng.IntN(2) {
			b = mutate(rng, b, tables)
		}
		stage := readEverything(t, b, want)
		outcome[stage]++
		if t.Failed() {
			t.Fatalf("mutation %d", i)
		}
	}
	// The mutations reach every check, and leave some files right.
	for _, stage := range []string{"find", "open", "verify", "read", "right"} {
		if outcome[stage] < 10 {
			t.Errorf("too few mutations end at %q: %v", stage, outcome)
		}
	}
}

// readEverything returns the stage at which b was refused. What is read without an error must be as written.
func readEverything(t *testing.T, b []byte, want map[string][]byte) string {
	r := bytes.NewReader(b)
	where, err := Find(r)
	if err != nil {
		return "find"
	}
	p, err := Open(r, where.Offset, where.Size)
	if err != nil {
		return "open"
	}
	verified := p.Verify(t.Context()) == nil
	stage := "right"
	if len(p.Parts()) != len(want) {
		t.Errorf("%d parts", len(p.Parts()))
	}
	for name := range want {
		got, err := p.ReadAll(name, 1<<20)
		switch {
		case err != nil && verified:
			t.Errorf("part %q: %v, though verified", name, err)
		case err != nil:
			stage = "read"
		case !bytes.Equal(got, want[name]):
			t.Errorf("part %q was read wrong", name)
		}
	}
	if stage == "right" && !verified {
		stage = "verify" // the padding
	}
	return stage
}

// mutate alters b at one random place.
func mutate(rng *rand.Rand, b []byte, tables [][2]int) []byte {
	at := rng.IntN(len(b))
	if rng.IntN(4) > 0 {
		table := tables[rng.IntN(len(tables))]
		at = min(table[0]+rng.IntN(table[1]-table[0]), len(b)-1)
	}
	end := min(at+1+rng.IntN(512), len(b))
	switch rng.IntN(8) {
	case 0:
		b[at] ^= 1 << rng.IntN(8)
	case 1:
		b[at] = byte(rng.Uint32())
	case 2, 3: // a number of a table
		at = min(at&^7, len(b)-8)
		old := binary.LittleEndian.Uint64(b[at:])
		numbers := []uint64{0, 1, math.MaxUint64, math.MaxInt64, 1 << 63, old + 1, old - 1, old + Align, old << 32, rng.Uint64(), uint64(len(b))}
		binary.LittleEndian.PutUint64(b[at:], numbers[rng.IntN(len(numbers))])
	case 4: // cut
		b = b[:max(at, 1)]
	case 5:
		clear(b[at:end])
	case 6: // bytes are lost
		b = slices.Delete(b, at, end)
	case 7: // bytes appear
		b = slices.Insert(b, at, b[at:end]...)
	}
	if len(b) < 8 {
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	return b
}
