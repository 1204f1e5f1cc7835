package instance

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"bake/internal/platform"
)

// An Instance is an app that runs.
type Instance struct {
	Info
	// Dir is its directory.
	Dir string `json:"-"`
}

// List returns the instances of this user that live, the oldest first.
func List() ([]Instance, error) {
	dirs, err := platform.LivingRunDirs()
	if err != nil {
		return nil, err
	}
	var all []Instance
	for _, dir := range dirs {
		// One that is about to register, or has just ended, has no file.
		if i, err := read(dir); err == nil {
			all = append(all, i)
		}
	}
	sortByAge(all, func(i Instance) Info { return i.Info })
	return all, nil
}

func sortByAge[T any](all []T, info func(T) Info) {
	slices.SortFunc(all, func(a, b T) int {
		x, y := info(a), info(b)
		return cmp.Or(x.Started.Compare(y.Started), cmp.Compare(x.ID, y.ID))
	})
}

func read(dir string) (Instance, error) {
	i := Instance{Dir: dir}
	if err := readJSON(filepath.Join(dir, infoFile), &i.Info); err != nil {
		return Instance{}, err
	}
	if i.ID != filepath.Base(dir) {
		return Instance{}, fmt.Errorf("%s tells of another instance, %.32q", dir, i.ID)
	}
	return i, nil
}

// A Query names one instance. All that is set must fit.
type Query struct {
	// Name is a name, an ID, or the beginning of exactly one ID.
	Name string
	PID  int
	// App is Info.App; empty is any.
	App string
}

var (
	// ErrNotFound is wrapped by the errors of searches that find nothing.
	ErrNotFound = errors.New("no such instance")
	// ErrAmbiguous is wrapped by the errors of searches that find several.
	ErrAmbiguous = errors.New("several instances fit")
)

// Find returns the one living instance that q names. Otherwise the error says
// what runs, or how to name one; it wraps [ErrNotFound] or [ErrAmbiguous].
func Find(q Query) (Instance, error) {
	all, err := List()
	if err != nil {
		return Instance{}, err
	}
	return pick(all, q)
}

func pick(all []Instance, q Query) (Instance, error) {
	mine := slices.DeleteFunc(slices.Clone(all), func(i Instance) bool { return q.App != "" && i.App != q.App })
	found := slices.DeleteFunc(slices.Clone(mine), func(i Instance) bool { return q.PID != 0 && i.PID != q.PID })
	if q.Name != "" {
		found = named(found, q.Name)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if len(mine) == 0 {
			return Instance{}, fmt.Errorf("nothing runs%s: %w", q.suffix(), ErrNotFound)
		}
		return Instance{}, fmt.Errorf("%w%s; there is %s", ErrNotFound, q.suffix(), describe(mine))
	}
	return Instance{}, fmt.Errorf("%w%s: %s; say which with --name or --pid", ErrAmbiguous, q.suffix(), describe(found))
}

// named are those that name fits best: a name before an ID before the beginning
// of one.
func named(all []Instance, name string) []Instance {
	for _, fits := range []func(Instance) bool{
		func(i Instance) bool { return i.Name == name },
		func(i Instance) bool { return i.ID == name },
		func(i Instance) bool { return strings.HasPrefix(i.ID, name) },
	} {
		if found := slices.DeleteFunc(slices.Clone(all), func(i Instance) bool { return !fits(i) }); len(found) > 0 {
			return found
		}
	}
	return nil
}

func (q Query) suffix() string {
	var s string
	if q.Name != "" {
		s += fmt.Sprintf(" with the name or ID %.64q", q.Name)
	}
	if q.PID != 0 {
		s += fmt.Sprintf(" with PID %d", q.PID)
	}
	return s
}

// describe names instances in a sentence, the first ones if there are many.
func describe(all []Instance) string {
	const most = 8
	var names []string
	for _, i := range all[:min(len(all), most)] {
		names = append(names, fmt.Sprintf("%s (PID %d)", i.Name, i.PID))
	}
	s := strings.Join(names, ", ")
	if n := len(all) - most; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}
