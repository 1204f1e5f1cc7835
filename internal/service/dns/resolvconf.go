package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxNameservers is how many nameservers are asked (resolv.conf(5), MAXNS).
const MaxNameservers = 3

// The limits of resolv.conf(5), and ours for what it does not bound.
const (
	maxTimeout    = 30 * time.Second
	maxAttempts   = 5
	maxSearch     = 64
	maxOptions    = 32
	maxOptionSize = 64
)

// resolvConfLimit bounds how much of a resolv.conf is read, in bytes.
const resolvConfLimit = 1 << 20

const port53 = 53

// A resolvConf is what a resolv.conf(5) says.
type resolvConf struct {
	nameservers []netip.AddrPort
	search      []string
	// options are as the file has them, for the guest; those that are for us
	// are understood below.
	options []string
	// timeout is how long one nameserver is waited for, and attempts how often
	// it is asked.
	timeout  time.Duration
	attempts int
	// rotate begins with another nameserver each time.
	rotate bool
	// useVC asks over TCP.
	useVC bool
}

// parseResolvConf reads text as glibc does: a keyword begins its line, the last
// of domain and search counts, and what is not understood is passed over.
func parseResolvConf(text []byte) *resolvConf {
	c := &resolvConf{timeout: 5 * time.Second, attempts: 2}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(line, fields[0]) {
			continue
		}
		switch args := fields[1:]; fields[0] {
		case "nameserver":
			if addr, err := netip.ParseAddr(args[0]); err == nil && len(c.nameservers) < MaxNameservers {
				c.nameservers = append(c.nameservers, netip.AddrPortFrom(addr.Unmap(), port53))
			}
		case "domain":
			c.search = searchList(args[:1])
		case "search":
			c.search = searchList(args)
		case "options":
			for _, o := range args {
				c.option(o)
			}
		}
	}
	if len(c.nameservers) == 0 {
		// resolv.conf(5): "the default is to use the name server on the local
		// machine".
		c.nameservers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port53)}
	}
	return c
}

// searchList keeps the names that can be domains.
func searchList(names []string) []string {
	var list []string
	for _, name := range names {
		if validName(name) && len(list) < maxSearch {
			list = append(list, name)
		}
	}
	return list
}

func (c *resolvConf) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	switch name {
	case "timeout":
		if n, err := strconv.ParseUint(value, 10, 16); err == nil {
			c.timeout = min(max(time.Duration(n)*time.Second, time.Second), maxTimeout)
		}
	case "attempts":
		if n, err := strconv.ParseUint(value, 10, 16); err == nil {
			c.attempts = min(max(int(n), 1), maxAttempts)
		}
	case "rotate":
		// The guest has one nameserver to ask.
		c.rotate = true
		return
	case "use-vc":
		c.useVC = true
	}
	if validOption(o) && len(c.options) < maxOptions && !slices.Contains(c.options, o) {
		c.options = append(c.options, o)
	}
}

func validOption(o string) bool {
	if o == "" || len(o) > maxOptionSize {
		return false
	}
	for _, c := range []byte(o) {
		if c <= ' ' || c > '~' || c == '#' || c == ';' {
			return false
		}
	}
	return true
}
