//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestSamples(t *testing.T) {
	for _, c := range []struct {
		in          samples
		median, p99 float64
		text        string
	}{
		{samples{3}, 3, 3, "3.0"},
		{samples{3, 1, 2}, 2, 3, "2.0 (1.0–3.0)"},
		{samples{4, 1, 3, 2}, 2.5, 4, "2.5 (1.0–4.0)"},
	} {
		if got := c.in.median(); got != c.median {
			t.Errorf("median of %v is %v, want %v", c.in, got, c.median)
		}
		if got := c.in.quantile(0.99); got != c.p99 {
			t.Errorf("p99 of %v is %v, want %v", c.in, got, c.p99)
		}
		if got := c.in.text("%.1f"); got != c.text {
			t.Errorf("text of %v is %q, want %q", c.in, got, c.text)
		}
	}
}

func TestRatio(t *testing.T) {
	r := ratioOf(samples{2, 4, 9}, samples{1, 2, 3})
	if r.value != 2 || r.String() != "2.00× (2.00–3.00)" {
		t.Errorf("the ratio is %v %q", r.value, r)
	}
}

func TestVerdicts(t *testing.T) {
	var tab table
	tab.atMost("a", "1.5×", 1.5, 1.5, "×")
	tab.atMost("b", "3×", 3, 1.5, "×")
	tab.atLeast("c", "200 MB/s", 200, 250, " MB/s")
	tab.atLeast("d", "250 MB/s", 250, 250, " MB/s")
	for i, want := range []string{"hit", "MISSED by 100 %", "MISSED by 25 %", "hit"} {
		if got := tab.rows[i].verdict; got != want {
			t.Errorf("row %s: %q, want %q", tab.rows[i].name, got, want)
		}
	}
	var out strings.Builder
	tab.print(&out)
	if !strings.Contains(out.String(), "≥ 250 MB/s") {
		t.Errorf("the table has no target:\n%s", out.String())
	}
}
