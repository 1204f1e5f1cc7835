// Package systemdtest reads units of systemd by the rules of its manual, for tests:
// it shares nothing with what writes them, and takes nothing that a unit of bake
// has no reason to have.
package systemdtest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
)

// A Unit has, for each section, the values of each setting in their order.
type Unit map[string]map[string][]string

// Parse reads a unit file.
func Parse(data []byte) (Unit, error) {
	list, err := unit.DeserializeOptions(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	u := Unit{}
	for _, o := range list {
		if u[o.Section] == nil {
			u[o.Section] = map[string][]string{}
		}
		u[o.Section][o.Name] = append(u[o.Section][o.Name], o.Value)
	}
	return u, nil
}

// Items splits a setting as systemd.syntax(7) says under "Quoting", and takes
// doubled specifiers apart. A specifier that is none fails.
func Items(s string) ([]string, error) {
	s = strings.ReplaceAll(s, "\\\n", " ")
	var list []string
	for {
		s = strings.TrimLeft(s, " \t\n")
		if s == "" {
			return list, nil
		}
		var b strings.Builder
		quoted := s[0] == '"'
		if quoted {
			s = s[1:]
		}
		for closed := false; !closed; {
			switch {
			case s == "" && quoted:
				return nil, errors.New("a quote is not closed")
			case s == "" || !quoted && strings.ContainsRune(" \t\n", rune(s[0])):
				closed = true
			case quoted && s[0] == '"':
				if s = s[1:]; s != "" && !strings.ContainsRune(" \t\n", rune(s[0])) {
					return nil, errors.New("a quote ends within a word")
				}
				closed = true
			case s[0] == '\'' && !quoted && b.Len() == 0:
				return nil, errors.New("a single quote opens a word")
			case s[0] == '\\':
				// The escapes of the table are those of Go, but for \s and \'.
				r, multi, rest, err := strconv.UnquoteChar(s, '"')
				if err != nil {
					return nil, fmt.Errorf("escape %.10q: %w", s, err)
				}
				if multi {
					b.WriteRune(r)
				} else {
					b.WriteByte(byte(r))
				}
				s = rest
			case s[0] == '%':
				if !strings.HasPrefix(s, "%%") {
					return nil, fmt.Errorf("the specifier %.2q", s)
				}
				b.WriteByte('%')
				s = s[2:]
			default:
				b.WriteByte(s[0])
				s = s[1:]
			}
		}
		list = append(list, b.String())
	}
}

// CommandLine reads ExecStart as systemd.service(5) says under "Command lines".
func CommandLine(s string) ([]string, error) {
	list, err := Items(s)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("there is no program in it")
	}
	for i, arg := range list[1:] {
		var b strings.Builder
		for arg != "" {
			if arg[0] == '$' {
				if !strings.HasPrefix(arg, "$$") {
					return nil, fmt.Errorf("the variable %.10q", arg)
				}
				arg = arg[1:]
			}
			b.WriteByte(arg[0])
			arg = arg[1:]
		}
		list[i+1] = b.String()
	}
	return list, nil
}
