//go:build linux

// Package names finds host names for the agent as the container's programs find
// them: by its hosts(5) and resolv.conf(5). The container may write both files
// as it likes. Go's own resolver reads those of the agent's root only, where
// there are none.
package names

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

const (
	// fileLimit is how much of a file is read, in bytes.
	fileLimit = 1 << 20
	// maxSearch is how many domains are searched, as in glibc before 2.26.
	maxSearch = 6
)

// Files are where names are found.
type Files struct{ Hosts, ResolvConf string }

// Lookup returns the addresses of a name, or of an address in text; there is one
// at least without an error.
func (f Files) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	if addrs := inHosts(read(f.Hosts), name); len(addrs) > 0 {
		return addrs, nil
	}
	servers, search := parseResolvConf(read(f.ResolvConf))
	if len(servers) == 0 {
		return nil, fmt.Errorf("nobody knows the name %q: the guest has no name server", name)
	}
	r := net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, netip.AddrPortFrom(servers[0], 53).String())
		},
	}
	var first error
	for _, candidate := range candidates(name, search) {
		addrs, err := r.LookupNetIP(ctx, "ip", candidate)
		if err == nil && len(addrs) > 0 {
			return addrs, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("look up %q: %w", name, first)
}

// read returns the beginning of a file, or nothing where there is none.
func read(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, fileLimit))
	return string(b)
}

// fields are the words of each line before a comment.
func fields(text string, comments string, line func([]string)) {
	for l := range strings.Lines(text) {
		if i := strings.IndexAny(l, comments); i >= 0 {
			l = l[:i]
		}
		if words := strings.Fields(l); len(words) > 1 {
			line(words)
		}
	}
}

func inHosts(text, name string) []netip.Addr {
	var addrs []netip.Addr
	name = strings.TrimSuffix(name, ".")
	fields(text, "#", func(words []string) {
		a, err := netip.ParseAddr(words[0])
		if err == nil && slices.ContainsFunc(words[1:], func(w string) bool { return strings.EqualFold(w, name) }) {
			addrs = append(addrs, a)
		}
	})
	return addrs
}

func parseResolvConf(text string) (servers []netip.Addr, search []string) {
	fields(text, "#;", func(words []string) {
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil {
				servers = append(servers, a)
			}
		case "search", "domain": // the last one counts
			search = words[1:min(len(words), 1+maxSearch)]
		}
	})
	return servers, search
}

// candidates are the full names to ask for, in their order ("ndots:1" of
// resolv.conf(5)).
func candidates(name string, search []string) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	var all []string
	for _, domain := range search {
		if domain = strings.Trim(domain, "."); domain != "" {
			all = append(all, name+"."+domain+".")
		}
	}
	if strings.Contains(name, ".") {
		return append([]string{name + "."}, all...)
	}
	return append(all, name+".")
}
