package builder

import (
	"strings"
	"testing"

	"bake/internal/policy"
)

// An app whose policy does not parse would never start, so it is not built:
// not even looked for are its parts.
func TestBuildRefusesAPolicy(t *testing.T) {
	o := Options{Network: policy.Rules{Deny: []string{"10.0.0.1/8"}}}
	if _, err := Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), `--deny-net: "10.0.0.1/8" is not a rule`) {
		t.Errorf("Build: %v", err)
	}
	if _, err := Cached(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is not a rule") {
		t.Errorf("Cached: %v", err)
	}
}
