package unit

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzYAMLString: what is written uses only escapes that YAML and Go have in common.
func FuzzYAMLString(f *testing.F) {
	for _, s := range slices.Concat(hostile, control) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		q := yamlString(s)
		if got, err := strconv.Unquote(q); err != nil || got != s {
			t.Fatalf("%q was written as %s and is %q: %v", s, q, got, err)
		}
		if strings.ContainsAny(q, "\n\r\u0085\u2028\u2029") {
			t.Fatalf("%q is more than a line", q)
		}
	})
}

func TestYAMLDocument(t *testing.T) {
	got := yamlDocument(yamlMap{}.
		with("a", yamlMap{}.with("b", 1).with("c", yamlMap{})).
		with("d", []any{"x", yamlMap{}.with("e", true).with("f", []any{"y"}), []any{}}).
		with("g", "no"))
	want := `a:
  b: 1
  c: {}
d:
- "x"
- e: true
  f:
  - "y"
- []
g: "no"
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
