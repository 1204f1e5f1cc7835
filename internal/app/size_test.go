package app

import "testing"

func TestParseMiB(t *testing.T) {
	for in, want := range map[string]int{
		"256": 256, "512m": 512, "512M": 512, "2g": 2048, "2GiB": 2048, "2gb": 2048, "1t": 1 << 20, "4096k": 4, " 64 ": 64,
		"1.5g": 1536, "0.5G": 512, "1.9m": 1, "512 mb": 512, "512Mib": 512, "1024t": 1 << 30, "4194304": 4194304,
		// Bytes, as docker run -m has them.
		"536870912": 512, "6291456": 6, "536870912b": 512, "536870913B": 512, "1048576b": 1,
	} {
		if got, err := ParseMiB(in); err != nil || got != want {
			t.Errorf("ParseMiB(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "m", "0", "-1", "+1", "12x", "1k", "999999999999999999", "9999999t", "1.5.2g", ".5g", "5.g", "1e3", "0x10", "1_000",
		"512b", "1 g b", "1gg", "1gm", "nan", "inf", "2gib b", "1025t", "0.9m", "99999999999999999999999g",
	} {
		if got, err := ParseMiB(in); err == nil {
			t.Errorf("ParseMiB(%q) = %d, want an error", in, got)
		}
	}
}
