//go:build linux

package network

import (
	"strings"
	"testing"
)

func TestCheckHostname(t *testing.T) {
	for _, good := range []string{"a", "redis-1", "a.b_C9", strings.Repeat("x", 64)} {
		if err := CheckHostname(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", 65), "a b", "a\nb", "ä", "a/b", "x\x00"} {
		if err := CheckHostname(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
