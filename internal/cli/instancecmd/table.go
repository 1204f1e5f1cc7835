package instancecmd

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// A table is printed in columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, heads ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)}
	t.row(heads...)
	return t
}

// row adds one row. Its error, if any, flush returns.
func (t table) row(cells ...string) {
	clean := make([]string, len(cells))
	for i, c := range cells {
		clean[i] = cell(c)
	}
	fmt.Fprintln(t.w, strings.Join(clean, "\t"))
}

func (t table) flush() error { return t.w.Flush() }

// cell makes text of others fit for a line on a terminal and for a table's cell:
// what is no visible character becomes one.
func cell(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
