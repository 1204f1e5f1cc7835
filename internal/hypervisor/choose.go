package hypervisor

import (
	"context"
	"fmt"
	"strings"
)

// Auto is the name that leaves the choice to [Choose].
const Auto = "auto"

// Choose returns the driver called name or, for [Auto], the first of drivers
// that is available here. When none fits, the error lists what was tried.
func Choose(ctx context.Context, name string, drivers []Driver) (Driver, error) {
	if name == "" {
		name = Auto
	}
	var names, tried []string
	for _, d := range drivers {
		names = append(names, d.Name())
		if name != Auto && name != d.Name() {
			continue
		}
		err := d.Available(ctx)
		if err == nil {
			return d, nil
		}
		if name != Auto {
			return nil, fmt.Errorf("the hypervisor %s does not work here: %w", name, err)
		}
		tried = append(tried, fmt.Sprintf("%s: %v", d.Name(), err))
	}
	if name != Auto {
		return nil, fmt.Errorf("there is no hypervisor called %q here: choose auto or one of %s", name, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("no hypervisor works here (%s)", strings.Join(tried, "; "))
}
