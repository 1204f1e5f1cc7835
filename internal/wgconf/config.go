package wgconf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"bake/internal/wire"
)

// The bounds of a configuration. A file of 64 KiB holds some 300 peers that say
// all that they can, and 1,000 that say little.
const (
	MaxFile  = 64 << 10 // bytes
	MaxPeers = 1000
)

// DefaultMTU is the interface's MTU in bytes where the file says nothing: what
// wg-quick(8) comes to on a network of 1500, which is what the tunnel's packets
// meet behind the host.
const DefaultMTU = 1420

// overhead is what a packet grows by in the tunnel, in bytes: the headers of
// IPv6 and UDP, and 32 of WireGuard's own.
const overhead = 80

// A Config is a file that was read. Its secrets do not print.
type Config struct {
	// Path is the file, for messages.
	Path string
	// Tunnel is what the guest makes of it.
	Tunnel wire.WireGuard
	// DNS are the name servers of its DNS lines, Search the domains.
	DNS    []netip.Addr
	Search []string
	// Warnings are sentences about what is not as it should be and does no harm.
	Warnings []string

	// peerLines and endpointLines are where Tunnel.Peers began and had their
	// endpoint, counted from 1.
	peerLines, endpointLines []int
}

// Load reads and checks a file. The error is one sentence for the user.
func Load(path string) (*Config, error) {
	data, mode, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read the WireGuard configuration: %w", err)
	}
	c, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	// As wg-quick does it. On a secret that others may read it goes on.
	if mode&0o007 != 0 {
		c.warn("%s holds a private key and is open to every user of this machine: chmod go= %[1]s closes it", path)
	}
	return c, nil
}

func read(path string) ([]byte, fs.FileMode, error) {
	// Looked at before it is opened: the opening of a named pipe would wait.
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file: bake run reads it twice, once to check it and once to use it", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, 0, err
	}
	return data, info.Mode(), nil
}

// Parse checks the content of a file. path is for messages, and its last
// element names the interface if it can, as with wg-quick(8): office.conf makes
// office, and what is no name of an interface makes wg0.
func Parse(path string, data []byte) (*Config, error) {
	c := &Config{Path: path}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%s is longer than %d KiB, which no WireGuard configuration needs", path, MaxFile>>10)
	}
	p := parser{config: c, seen: map[string]int{}, allowed: map[netip.Prefix]int{}}
	if err := p.parse(string(data)); err != nil {
		var at *lineError
		if errors.As(err, &at) {
			return nil, fmt.Errorf("%s, line %d: %w", path, at.line, at.err)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.Tunnel.Name = interfaceName(path)
	return c, nil
}

// nameRE is what wg-quick(8) takes for the name of an interface.
var nameRE = regexp.MustCompile(`^[a-zA-Z0-9_=+.-]{1,15}$`)

// taken are names that mean something else in the guest, or everywhere in
// /proc/sys/net.
var taken = map[string]bool{".": true, "..": true, "all": true, "default": true, "lo": true, wire.HostInterface: true}

func interfaceName(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".conf")
	if !nameRE.MatchString(name) || taken[name] {
		return "wg0"
	}
	return name
}

func (c *Config) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// A lineError is what is wrong with one line.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }
