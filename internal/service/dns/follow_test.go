package dns

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bake/internal/wire"
)

func TestResolvConf(t *testing.T) {
	local := []string{"127.0.0.1:53"}
	for name, tt := range map[string]struct {
		text        string
		nameservers []string
		search      []string
		options     []string
		timeout     time.Duration
		attempts    int
	}{
		"empty": {"", local, nil, nil, 5 * time.Second, 2},
		"usual": {"# made by nobody\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nsearch a.example b.example\noptions ndots:2 timeout:1 attempts:4 edns0 trust-ad\n",
			[]string{"192.0.2.1:53", "[2001:db8::1]:53"}, []string{"a.example", "b.example"},
			[]string{"ndots:2", "timeout:1", "attempts:4", "edns0", "trust-ad"}, time.Second, 4},
		"at most three": {"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4",
			[]string{"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"}, nil, nil, 5 * time.Second, 2},
		"link-local":           {"nameserver fe80::1%eth0\n", []string{"[fe80::1%eth0]:53"}, nil, nil, 5 * time.Second, 2},
		"not understood":       {" nameserver 192.0.2.9\nnameserver x\nnameserver\n;nameserver 192.0.2.8\nfoo bar\noptions timeout:x attempts:\n", local, nil, []string{"timeout:x", "attempts:"}, 5 * time.Second, 2},
		"the last search":      {"domain a\nsearch b c\ndomain d e\n", local, []string{"d"}, nil, 5 * time.Second, 2},
		"a dot":                {"search a\nsearch .\n", local, nil, nil, 5 * time.Second, 2},
		"limits":               {"options timeout:999 attempts:99 rotate rotate use-vc\n", local, nil, []string{"timeout:999", "attempts:99", "use-vc"}, 30 * time.Second, 5},
		"zero":                 {"options timeout:0 attempts:0\n", local, nil, []string{"timeout:0", "attempts:0"}, time.Second, 1},
		"names of other hosts": {"search a\\nb ok.example a;b\n", local, []string{"ok.example"}, nil, 5 * time.Second, 2},
	} {
		c := parseResolvConf([]byte(tt.text))
		var ns []string
		for _, a := range c.nameservers {
			ns = append(ns, a.String())
		}
		if !reflect.DeepEqual(ns, tt.nameservers) || !reflect.DeepEqual(c.search, tt.search) || !reflect.DeepEqual(c.options, tt.options) ||
			c.timeout != tt.timeout || c.attempts != tt.attempts {
			t.Errorf("%s: %q and %+v, want %+v", name, ns, c, tt)
		}
	}
}

// A resolv.conf has no ports. These are where the nameservers of a test's are.
func onPorts(s *Server, path string, ports map[string]netip.AddrPort) {
	s.resolvConf = newFollower(path, resolvConfLimit, func(text []byte) *resolvConf {
		c := parseResolvConf(text)
		for i, ns := range c.nameservers {
			c.nameservers[i] = ports[ns.Addr().String()]
		}
		return c
	})
}

func TestResolvConfThatChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resolv.conf")
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	write(t, one, "nameserver 192.0.2.1\n")
	write(t, two, "nameserver 192.0.2.2\n")
	ports := map[string]netip.AddrPort{}
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		ports[a] = answers(t, a)
	}
	ports["127.0.0.1"] = closedPort(t)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.Symlink("one", path))
	s := newServer(t, Options{})
	onPorts(s, path, ports)
	expect := func(addr string) {
		t.Helper()
		if m := ask(t, s, "q", dns.TypeA); says(m) != "q. A "+addr {
			t.Errorf("got %v, want the answer of %s", m, addr)
		}
	}
	expect("192.0.2.1")
	// The link is replaced, as NetworkManager does it.
	do(os.Symlink("two", path+".new"))
	do(os.Rename(path+".new", path))
	expect("192.0.2.2")
	// The file behind it is written in place.
	write(t, two, "nameserver 192.0.2.3\n")
	expect("192.0.2.3")
	// It is gone, empty, a directory: what it said holds.
	do(os.Remove(two))
	expect("192.0.2.3")
	do(os.Mkdir(two, 0o755))
	expect("192.0.2.3")
	do(os.Remove(two))
	write(t, two, "")
	expect("192.0.2.3")
	write(t, two, "nameserver 192.0.2.1\n")
	expect("192.0.2.1")
	// Another file that is old, with the size of the last.
	write(t, path+".old", "nameserver 192.0.2.3\n")
	do(os.Chtimes(path+".old", time.Unix(1, 0), time.Unix(1, 0)))
	do(os.Rename(path+".old", path))
	expect("192.0.2.3")
	// And nothing is read of a file that did not change.
	if s.resolvConf.info == nil {
		t.Error("a file that has been quiet for long is read every time")
	}
}

// A change that neither size nor time tells is seen when it comes soon after
// another.
func TestQuickChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	at := time.Unix(1e9, 0)
	put := func(text string) {
		write(t, path, text)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	put("a")
	f := newFollower(path, 100, func(b []byte) string { return string(b) })
	for _, tt := range []struct {
		after   time.Duration
		text    string
		want    string
		changed bool
	}{
		{0, "b", "b", true}, {time.Second, "c", "c", true}, {time.Second, "c", "c", false},
		{settled, "d", "d", true}, {settled, "e", "d", false},
	} {
		f.now = func() time.Time { return at.Add(tt.after) }
		if tt.after == 0 {
			f.info = nil
		}
		put(tt.text)
		if got, changed := f.get(); got != tt.want || changed != tt.changed {
			t.Errorf("%v later with %q: %q, %v; want %q, %v", tt.after, tt.text, got, changed, tt.want, tt.changed)
		}
	}
}

// Of a file without bounds, the first lines count.
func TestLongFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "1234\n567\n89\n")
	if got, _ := newFollower(path, 7, func(b []byte) string { return string(b) }).get(); got != "1234\n" {
		t.Errorf("got %q", got)
	}
}

// A file that is not there when the server starts may come.
func TestResolvConfThatComes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	s := newServer(t, Options{})
	onPorts(s, path, map[string]netip.AddrPort{"127.0.0.1": closedPort(t), "192.0.2.1": answers(t, "192.0.2.1")})
	if m := ask(t, s, "q", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("without a nameserver: %v", m)
	}
	write(t, path, "nameserver 192.0.2.1\n")
	if m := ask(t, s, "q", dns.TypeA); says(m) != "q. A 192.0.2.1" {
		t.Errorf("got %v", m)
	}
}

func TestResolver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "nameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:2 rotate edns0\n")
	host := []netip.Addr{netip.MustParseAddr("198.18.0.2")}
	for name, tt := range map[string]struct {
		o    Options
		want wire.Resolver
	}{
		"the host's":   {Options{}, wire.Resolver{Nameservers: host, Search: []string{"a.example", "b.example"}, Options: []string{"ndots:2", "edns0"}}},
		"other search": {Options{Search: []string{"c"}}, wire.Resolver{Nameservers: host, Search: []string{"c"}, Options: []string{"ndots:2", "edns0"}}},
		"no search":    {Options{Search: []string{"."}}, wire.Resolver{Nameservers: host, Search: []string{}, Options: []string{"ndots:2", "edns0"}}},
		"other options": {Options{ResolverOptions: []string{"timeout:3"}},
			wire.Resolver{Nameservers: host, Search: []string{"a.example", "b.example"}, Options: []string{"timeout:3"}}},
	} {
		tt.o.ResolvConf = path
		if got := newServer(t, tt.o).Resolver(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "nameserver 192.0.2.1\nsearch a\n")
	s := newServer(t, Options{ResolvConf: path})
	s.Resolver()
	write(t, path, "nameserver 192.0.2.1\nsearch b\n") // between the two
	ctx, cancel := context.WithCancel(bounded(t))
	news := make(chan wire.Resolver)
	var done sync.WaitGroup
	done.Go(func() {
		s.Watch(ctx, func(r wire.Resolver) {
			select {
			case news <- r:
			case <-ctx.Done():
				t.Errorf("nobody expected %+v", r)
			}
		})
	})
	expect := func(search ...string) {
		t.Helper()
		select {
		case r := <-news:
			if !slices.Equal(r.Search, search) {
				t.Errorf("told of %+v, want the search list %q", r, search)
			}
		case <-ctx.Done():
			t.Fatal("Watch does not tell")
		}
	}
	expect("b")
	write(t, path, "nameserver 192.0.2.1\nsearch c d\n")
	expect("c", "d")
	// A nameserver is nothing that the guest knows of.
	write(t, path, "nameserver 192.0.2.2\nsearch c d\n")
	s.config()
	write(t, path, "nameserver 192.0.2.2\n")
	expect()
	cancel()
	done.Wait()
}
