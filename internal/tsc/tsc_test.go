package tsc

import (
	"errors"
	"math"
	"runtime"
	"testing"
	"time"
)

func TestTwoMeasurementsAgree(t *testing.T) {
	short, long := Begin(), Begin()
	a, err := short.KHz(10 * time.Millisecond)
	if runtime.GOARCH != "amd64" {
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("KHz = %d, %v, want ErrUnsupported", a, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := long.KHz(200 * time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	// No x86 counter is outside this range.
	if a < 100_000 || a > 10_000_000 {
		t.Errorf("KHz = %d", a)
	}
	if d := math.Abs(float64(a)-float64(b)) / float64(b); d > 500e-6 {
		t.Errorf("10 ms say %d kHz and 200 ms say %d kHz: %.0f parts in a million apart", a, b, d*1e6)
	}
	t.Logf("%d kHz after 10 ms, %d kHz after 200 ms", a, b)
}
