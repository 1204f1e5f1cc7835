package unit

import (
	"fmt"
	"strconv"
	"strings"
)

// A yamlMap is a mapping in the order of its keys, which are plain words. Values
// are yamlMap, []any, string, int, int64 or bool.
type yamlMap []yamlPair

type yamlPair struct {
	key   string
	value any
}

// with adds a pair.
func (m yamlMap) with(key string, value any) yamlMap { return append(m, yamlPair{key, value}) }

// yamlDocument writes m as one document of YAML 1.2 in block style. All strings are
// in double quotes, so that none is taken for a number, a date or a Norwegian no.
func yamlDocument(m yamlMap) string {
	var b strings.Builder
	writeYAMLMap(&b, m, 0, false)
	return b.String()
}

// writeYAMLMap writes pairs with that indentation; the first one continues a line
// if inline is set.
func writeYAMLMap(b *strings.Builder, m yamlMap, indent int, inline bool) {
	for i, p := range m {
		if i > 0 || !inline {
			b.WriteString(strings.Repeat(" ", indent))
		}
		b.WriteString(p.key + ":")
		writeYAMLValue(b, p.value, indent)
	}
}

func writeYAMLValue(b *strings.Builder, value any, indent int) {
	switch v := value.(type) {
	case yamlMap:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteByte('\n')
		writeYAMLMap(b, v, indent+2, false)
	case []any:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteByte('\n')
		for _, item := range v {
			b.WriteString(strings.Repeat(" ", indent) + "-")
			if m, ok := item.(yamlMap); ok && len(m) > 0 {
				b.WriteByte(' ')
				writeYAMLMap(b, m, indent+2, true)
				continue
			}
			writeYAMLValue(b, item, indent+2)
		}
	case string:
		b.WriteString(" " + yamlString(v) + "\n")
	default:
		fmt.Fprintf(b, " %v\n", v)
	}
}

// yamlString is s as a double-quoted scalar (YAML 1.2.2, 7.3.1), on one line and
// with all escaped that is not printable there (5.1) or that an editor may change.
func yamlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case 0x80 <= r && r <= 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffe || r == 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case r > 0xffff && !strconv.IsPrint(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// yamlStrings is a sequence of strings.
func yamlStrings(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
