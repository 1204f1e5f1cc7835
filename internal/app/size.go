package app

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// size is how docker-run(1) writes sizes: a decimal number and perhaps a unit.
// There is no exponent in it, nor anything else that takes long to compute.
var size = regexp.MustCompile(`^([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([kmgt]?)(i?b)?$`)

// leastBytes is from where on a number alone is of bytes, which is what it is to
// docker-run(1): Docker gives no container less, and no machine has as many MiB.
const leastBytes = 6 << 20

// ParseMiB reads a size: a number of MiB, or one with b, k, m, g or t after it as
// docker-run(1) writes them. Parts of a MiB are cut off.
func ParseMiB(s string) (int, error) {
	parts := size.FindStringSubmatch(strings.ToLower(strings.TrimSpace(s)))
	if parts == nil {
		return 0, fmt.Errorf("%q is not a size: write a number of MiB, or one with m, g or t after it, such as 512m or 2g", s)
	}
	n, ok := new(big.Rat).SetString(parts[1])
	if !ok {
		return 0, fmt.Errorf("%q is not a size: its number is none", s)
	}
	shift, unit := 20, parts[2]+parts[3]
	switch {
	case unit == "" && n.Cmp(big.NewRat(leastBytes, 1)) >= 0, parts[2] == "" && unit != "":
		shift = 0
	case parts[2] != "":
		shift = 10 * (1 + strings.Index("kmgt", parts[2]))
	}
	bytes := n.Mul(n, new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(shift))))
	mib := new(big.Int).Quo(bytes.Num(), new(big.Int).Lsh(bytes.Denom(), 20))
	if mib.Sign() <= 0 || mib.Cmp(big.NewInt(1<<30)) > 0 {
		return 0, fmt.Errorf("%q is not a size that a VM can have: give 1m up to 1024t", s)
	}
	return int(mib.Int64()), nil
}
