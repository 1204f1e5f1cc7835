package volume

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Sort returns the volumes in the order in which they can be mounted: what is
// in another comes after it, and otherwise the order stays. Two volumes with
// one target are an error, and so is one image or named volume that is to be
// written twice.
func Sort(specs []Spec) ([]Spec, error) {
	targets, sources := map[string]Spec{}, map[string]Spec{}
	for _, s := range specs {
		if other, ok := targets[s.Target]; ok {
			return nil, fmt.Errorf("two volumes are to be at %s in the container, %s and %s: give one of them another place", s.Target, other.source(), s.source())
		}
		targets[s.Target] = s
		if s.Kind != KindNamed && s.Kind != KindImage {
			continue
		}
		key := s.source()
		if other, ok := sources[key]; ok && !(s.ReadOnly && other.ReadOnly) {
			return nil, fmt.Errorf("the %s is to be at %s and at %s: it is a disk, and one that is written can be mounted once only; mount it once and share a folder in it by a symbolic link, or make both :ro", key, other.Target, s.Target)
		}
		sources[key] = s
	}
	sorted := slices.Clone(specs)
	slices.SortStableFunc(sorted, func(a, b Spec) int {
		return cmp.Compare(strings.Count(a.Target, "/"), strings.Count(b.Target, "/"))
	})
	return sorted, nil
}

// source says for a person what is mounted.
func (s Spec) source() string {
	switch s.Kind {
	case KindNamed:
		return "volume " + s.Name
	case KindTmpfs:
		return "a tmpfs"
	case KindImage:
		return "disk image " + s.Host
	}
	return s.Host
}
