//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// samples are the values of one measurement, in the order of the rounds.
type samples []float64

func (s *samples) add(v float64)              { *s = append(*s, v) }
func (s *samples) addSeconds(d time.Duration) { s.add(d.Seconds()) }
func (s samples) min() float64                { return slices.Min(s) }
func (s samples) max() float64                { return slices.Max(s) }
func (s samples) median() float64             { return s.quantile(0.5) }
func (s samples) scaled(f float64) (t samples) {
	return s.with(s, func(a, _ float64) float64 { return a * f })
}

// quantile is the value that the part q of the samples does not exceed, or
// for the median of an even number the middle between two.
func (s samples) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	if n := len(sorted); q == 0.5 && n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// with joins the values of each round.
func (s samples) with(other samples, f func(a, b float64) float64) (t samples) {
	for i := range min(len(s), len(other)) {
		t.add(f(s[i], other[i]))
	}
	return t
}

// text is the median and the range, with the digits that a format gives.
func (s samples) text(format string) string {
	if len(s) == 0 {
		return "none"
	}
	if len(s) == 1 {
		return fmt.Sprintf(format, s[0])
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.median(), s.min(), s.max())
}

// A ratio is one median divided by another; what the rounds gave one by one is
// its range.
type ratio struct {
	value  float64
	rounds samples
}

func ratioOf(a, b samples) ratio {
	return ratio{a.median() / b.median(), a.with(b, func(a, b float64) float64 { return a / b })}
}

func (r ratio) String() string {
	if len(r.rounds) < 2 {
		return fmt.Sprintf("%.2f×", r.value)
	}
	return fmt.Sprintf("%.2f× (%.2f–%.2f)", r.value, r.rounds.min(), r.rounds.max())
}

// A table is the end of a run.
type table struct {
	rows []row
}

type row struct {
	section             string
	name, value, target string
	verdict             string
}

func (t *table) section(name string) { t.rows = append(t.rows, row{section: name}) }

// figure is a value without a target.
func (t *table) figure(name, value string) {
	t.rows = append(t.rows, row{name: name, value: value})
	fmt.Printf("   %-58s %s\n", name, value)
}

// atMost and atLeast are values with a target; v is compared with limit.
func (t *table) atMost(name, value string, v, limit float64, unit string) {
	t.judge(name, value, "≤ "+number(limit)+unit, v <= limit, v/limit)
}

func (t *table) atLeast(name, value string, v, limit float64, unit string) {
	t.judge(name, value, "≥ "+number(limit)+unit, v >= limit, limit/v)
}

// judge adds a row; excess is above 1 when the target is missed.
func (t *table) judge(name, value, target string, hit bool, excess float64) {
	verdict := "hit"
	if !hit {
		verdict = fmt.Sprintf("MISSED by %.0f %%", (excess-1)*100)
	}
	t.rows = append(t.rows, row{name: name, value: value, target: target, verdict: verdict})
	fmt.Printf("   %-58s %-26s target %s: %s\n", name, value, target, verdict)
}

func number(v float64) string { return fmt.Sprintf("%.4g", v) }

func (t *table) print(w io.Writer) {
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "FIGURE\tMEDIAN (MIN–MAX)\tTARGET\t")
	for _, r := range t.rows {
		if r.section != "" {
			fmt.Fprintf(tw, "%s\t\t\t\n", r.section)
			continue
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", r.name, r.value, r.target, r.verdict)
	}
	tw.Flush()
}
