//go:build linux

package network

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"bake/internal/wire"
)

// WriteHosts writes what become the container's /etc/hosts (hosts(5)), with
// the given entries beside those of every guest, and /etc/hostname.
func WriteHosts(hosts, hostname, name string, entries []wire.HostEntry) error {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost " + name + "\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback " + name + "\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, e := range entries {
		fmt.Fprintf(&b, "%s\t%s\n", e.Addr, e.Name)
	}
	for _, f := range []struct{ path, content string }{{hosts, b.String()}, {hostname, name + "\n"}} {
		if err := os.WriteFile(f.path, []byte(f.content), 0o644); err != nil {
			return fmt.Errorf("write the container's host files: %w", err)
		}
	}
	return nil
}

// A ResolvConf is the file that the container has as its /etc/resolv.conf
// (resolv.conf(5)).
type ResolvConf struct {
	path string

	mu   sync.Mutex
	text string // that we wrote
}

// WriteResolvConf makes the file. r is nil in a guest without a network.
func WriteResolvConf(path string, r *wire.Resolver) (*ResolvConf, error) {
	c := &ResolvConf{path: path, text: resolvConf(r)}
	if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
		return nil, fmt.Errorf("write the container's resolv.conf: %w", err)
	}
	return c, nil
}

// Update has the file say r, unless the container wrote something else into
// it. The file stays the same one, because the container has it by a mount.
func (c *ResolvConf) Update(r *wire.Resolver) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := resolvConf(r)
	if err := c.rewrite(text); err != nil {
		return fmt.Errorf("change the container's resolv.conf: %w", err)
	}
	return nil
}

func (c *ResolvConf) rewrite(text string) error {
	now, err := os.ReadFile(c.path)
	if err != nil || string(now) != c.text {
		return err
	}
	f, err := os.OpenFile(c.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// In this order there is no moment without a nameserver.
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(text))); err != nil {
		return err
	}
	c.text = text
	return nil
}

// nobody is the file of a guest without a network. Resolvers then ask the
// loopback: most are refused there at once, and the options are for those that
// wait for an answer all the same.
const nobody = "# Made by bake: this container has no network, so there is nobody to ask.\n" +
	"options timeout:1 attempts:1\n"

func resolvConf(r *wire.Resolver) string {
	if r == nil {
		return nobody
	}
	var b strings.Builder
	b.WriteString("# Made by bake: the host answers as it would answer its own programs.\n")
	for _, a := range r.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(r.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.String()
}
