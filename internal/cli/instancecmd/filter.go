package instancecmd

import (
	"fmt"
	"slices"
	"strings"

	"bake/internal/instance"
)

// filters are what ps --filter asks for: one of the values of every key.
type filters map[string][]string

// filterKeys say whether a row has a value, as docker's filters of these names do:
// a part of a name is enough.
var filterKeys = map[string]func(r row, value string) bool{
	"name":   func(r row, v string) bool { return strings.Contains(r.Name, v) },
	"id":     func(r row, v string) bool { return strings.HasPrefix(r.ID, v) },
	"image":  func(r row, v string) bool { return strings.Contains(imageName(r.Info, true), v) },
	"status": func(r row, v string) bool { return string(r.State) == v },
	"health": func(r row, v string) bool { return r.Health == v || r.Health == "" && v == "none" },
}

// filterWords are the keys as they are written.
func filterWords() []string {
	var words []string
	for key := range filterKeys {
		words = append(words, key+"=")
	}
	slices.Sort(words)
	return words
}

func parseFilters(given []string) (filters, error) {
	f := filters{}
	for _, s := range given {
		key, value, ok := strings.Cut(s, "=")
		if !ok || filterKeys[key] == nil {
			return nil, fmt.Errorf("--filter %.80q is none: give one of %s and a value", s, strings.Join(filterWords(), " "))
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

// wantsEnded says that ended instances are asked for.
func (f filters) wantsEnded() bool {
	return slices.Contains(f["status"], string(instance.StateExited))
}

// apply is the rows that fit.
func (f filters) apply(rows []row) []row {
	return slices.DeleteFunc(rows, func(r row) bool {
		for key, values := range f {
			fits := func(v string) bool { return filterKeys[key](r, v) }
			if !slices.ContainsFunc(values, fits) {
				return true
			}
		}
		return false
	})
}
