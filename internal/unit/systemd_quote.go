package unit

import (
	"fmt"
	"strings"
)

// systemdWord is s as one item of a setting that is split into items
// (systemd.syntax(7), "Quoting"), with specifiers doubled (systemd.unit(5)).
func systemdWord(s string) string {
	plain := s != ""
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			plain = false
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '%':
			b.WriteString("%%")
		case r == '\n':
			plain = false
			b.WriteString(`\n`)
		case r == '\t':
			plain = false
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			plain = false
			fmt.Fprintf(&b, `\x%02x`, r)
		case 0x80 <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			plain = false
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			// All but these is safe without quotes.
			plain = plain && r < 0x80 && (r == '-' || r == '_' || r == '.' || r == '/' || r == ':' || r == '=' || r == ',' || r == '@' || r == '+' || r == '$' ||
				'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
			b.WriteRune(r)
		}
	}
	if plain {
		return b.String()
	}
	return `"` + b.String() + `"`
}

// systemdArgument is s as an argument in a command line, where "$" begins a
// variable even in quotes (systemd.service(5), "Command lines"). That is not so of
// the path of the program, which is a systemdWord.
func systemdArgument(s string) string { return systemdWord(strings.ReplaceAll(s, "$", "$$")) }
