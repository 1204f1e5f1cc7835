package policy

import (
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"bake/internal/wire"
)

// HostName is the host itself in a rule; only --allow-host-loopback opens it.
const HostName = wire.HostName

// maxName is the longest name in its textual form, in bytes (RFC 1035, section
// 2.3.4, without the root's dot).
const maxName = 253

// canonicalName returns the one form in which names are compared: lower case,
// internationalised labels in Punycode, no dot at the end. ok is false for what
// is no host name. Underscores are let through, because names with them resolve.
func canonicalName(s string) (name string, ok bool) {
	if len(s) > MaxRule {
		return "", false
	}
	for i := range len(s) {
		if s[i] >= 0x80 {
			var err error
			if s, err = idna.Lookup.ToASCII(s); err != nil {
				return "", false
			}
			break
		}
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if s == "" || len(s) > maxName {
		return "", false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 || s[i-1] == '-' {
				return "", false
			}
			label = 0
			continue
		case c == '-' && label == 0:
			return "", false
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return "", false
		}
		if label++; label > 63 {
			return "", false
		}
	}
	return s, label > 0 && s[len(s)-1] != '-'
}

// numeric says whether resolvers may read name as an IPv4 address: 127.1,
// 2130706433 and 0x7f000001 are all 127.0.0.1 to inet_aton(3).
func numeric(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// loopbackName says whether name is the loopback of whoever resolves it (RFC
// 6761, section 6.3, and what distributions write into hosts(5)).
func loopbackName(name string) bool {
	switch name {
	case "localhost", "localhost.localdomain", "localhost4", "localhost4.localdomain4",
		"localhost6", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback":
		return true
	}
	return strings.HasSuffix(name, ".localhost")
}

// metadataName says whether name is a cloud's metadata service, for those who
// let somebody else resolve it.
func metadataName(name string) bool {
	switch name {
	case "metadata.google.internal", "metadata.goog", "metadata",
		"instance-data.ec2.internal", "instance-data":
		return true
	}
	return false
}

// printable makes what the guest or the user said harmless for a terminal and
// of bounded length.
func printable(s string) string {
	const limit = 80
	if len(s) > limit {
		return strconv.Quote(s[:limit]) + "..."
	}
	return strconv.Quote(s)
}
