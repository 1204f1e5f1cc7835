package unit

import (
	"fmt"
	"strings"
)

// hclString is s as a quoted template of HCL without anything that is evaluated
// (HCL native syntax specification, "Quoted template expressions").
func hclString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case (r == '$' || r == '%') && strings.HasPrefix(s[i+1:], "{"):
			b.WriteRune(r)
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// dollar is the variable of the task that holds a "$".
const dollar = "BAKE_DOLLAR"

// nomadString is s as an argument of a task, in which Nomad's client replaces
// ${NAME} when the task starts, even where HCL has left it alone. There is no way
// to write a "$" that is none, so a variable has it: what comes of a variable is
// not looked at again.
func nomadString(s string) string {
	return hclString(strings.ReplaceAll(s, "${", "${"+dollar+"}{"))
}
