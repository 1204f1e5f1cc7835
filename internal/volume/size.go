package volume

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseSize reads the size of a volume: a number with k, m, g or t after it, as
// docker-run(1) writes sizes, or a number alone, which is MiB as for bake's
// other disks. The result is in bytes and may still be one that no volume can
// have.
func ParseSize(s string) (int64, error) { return parseBytes(s, 1<<20) }

// parseBytes reads a size in bytes; unit is that of a number alone.
func parseBytes(s string, unit int64) (int64, error) {
	bad := fmt.Errorf("%q is not a size: write a number with k, m, g or t after it, such as 512m or 10g", s)
	num := strings.ToLower(s)
	num, iec := strings.CutSuffix(num, "ib")
	if !iec {
		num = strings.TrimSuffix(num, "b")
	}
	if num == "" {
		return 0, bad
	}
	switch last := num[len(num)-1]; {
	case strings.IndexByte("kmgt", last) >= 0:
		unit = 1 << (10 * (1 + strings.IndexByte("kmgt", last)))
		num = num[:len(num)-1]
	case iec:
		return 0, bad
	case len(num) < len(s): // a number and "b"
		unit = 1
	}
	n, err := strconv.ParseUint(num, 10, 63)
	if err != nil || num[0] == '+' {
		return 0, bad
	}
	if int64(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is more bytes than any file can have", s)
	}
	return int64(n) * unit, nil
}

// FormatSize is a size for a person: "10 GiB", "1.5 GiB", "512 KiB".
func FormatSize(n int64) string {
	for _, u := range []struct {
		name  string
		shift int
	}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n>>u.shift > 0 {
			v := strconv.FormatFloat(float64(n)/float64(int64(1)<<u.shift), 'f', 1, 64)
			return strings.TrimSuffix(v, ".0") + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}
