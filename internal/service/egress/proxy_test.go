package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bake/internal/relay"
	"bake/internal/socks5"
)

// A testProxy is a proxy that connects everything to one server, or refuses.
type testProxy struct {
	addr    netip.AddrPort
	mu      sync.Mutex
	asked   []string
	to      netip.AddrPort
	user    string // user:password that it wants
	refusal string // the answer in place of a connection
}

func (p *testProxy) ask(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, s)
}

func (p *testProxy) took() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.asked
	p.asked = nil
	return a
}

func (p *testProxy) join(client net.Conn) {
	c, err := net.Dial("tcp", p.to.String())
	if err != nil {
		return
	}
	_ = relay.Join(context.Background(), client.(relay.Conn), c.(relay.Conn))
}

// socksProxy follows RFC 1928 and RFC 1929.
func socksProxy(t testing.TB, p *testProxy) *testProxy {
	p.addr = serveTCP(t, "127.0.0.1:0", func(c net.Conn) {
		method := socks5.MethodNone
		if p.user != "" {
			method = socks5.MethodPassword
		}
		if _, err := socks5.ReadGreeting(c, method); err != nil {
			return
		}
		if p.user != "" {
			var head [2]byte
			_, _ = io.ReadFull(c, head[:])
			name := make([]byte, int(head[1])+1)
			_, _ = io.ReadFull(c, name)
			password := make([]byte, name[len(name)-1])
			_, _ = io.ReadFull(c, password)
			if string(name[:len(name)-1])+":"+string(password) != p.user || head[0] != 1 {
				_, _ = c.Write([]byte{1, 1})
				return
			}
			_, _ = c.Write([]byte{1, 0})
		}
		to, err := socks5.ReadRequest(c)
		if err != nil {
			t.Errorf("the proxy is asked: %v", err)
			return
		}
		p.ask(to.String())
		if p.refusal != "" {
			_ = socks5.WriteReply(c, socks5.Reply(p.refusal[0]), netip.AddrPort{})
			return
		}
		_ = socks5.WriteReply(c, socks5.ReplySucceeded, netip.MustParseAddrPort("[2001:db8::9]:1"))
		p.join(c)
	})
	return p
}

// httpProxy reads its requests with net/http.
func httpProxy(t testing.TB, p *testProxy, config *tls.Config) *testProxy {
	p.addr = serveTCP(t, "127.0.0.1:0", func(c net.Conn) {
		if config != nil {
			c = tls.Server(c, config)
		}
		r := bufio.NewReaderSize(c, 16) // it may not hold what follows the header
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Method != http.MethodConnect || req.Host != req.RequestURI {
			t.Errorf("the proxy is asked %s %s of %s", req.Method, req.RequestURI, req.Host)
		}
		want := ""
		if p.user != "" {
			want = "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user))
		}
		if got := req.Header.Get("Proxy-Authorization"); got != want {
			fmt.Fprintf(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		p.ask(req.Host)
		if p.refusal != "" {
			_, _ = io.WriteString(c, p.refusal)
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n")
		if tc, ok := c.(*tls.Conn); ok {
			out, err := net.Dial("tcp", p.to.String())
			if err != nil {
				return
			}
			_ = relay.Join(context.Background(), tc, out.(relay.Conn))
			return
		}
		p.join(c)
	})
	return p
}

func echo(c net.Conn) {
	_, _ = io.Copy(c, c)
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

// roundTrip sends something and its end, and reads both back.
func roundTrip(conn relay.Conn) error {
	defer conn.Close()
	data := bytes.Repeat([]byte("echo"), 20_000)
	go func() {
		_, _ = conn.Write(data)
		_ = conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("%d bytes of %d came back", len(got), len(data))
	}
	return err
}

func TestProxies(t *testing.T) {
	server := serveTCP(t, "127.0.0.1:0", echo)
	names := NewFakeNames()
	fake := at(netip.AddrPortFrom(names.Assign("example.com"), 443))
	addr := at(netip.MustParseAddrPort("203.0.113.9:80"))
	addr6 := at(netip.MustParseAddrPort("[2001:db8::1]:80"))
	lookup := func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("203.0.113.7")}, nil
	}
	for _, c := range []struct {
		what  string
		proxy *testProxy
		url   string
		to    socks5.Address
		asked string
	}{
		{"SOCKS", socksProxy(t, &testProxy{to: server}), "socks5://%s", addr, "203.0.113.9:80"},
		{"SOCKS, IPv6", socksProxy(t, &testProxy{to: server}), "socks5://%s", addr6, "[2001:db8::1]:80"},
		{"SOCKS is given addresses", socksProxy(t, &testProxy{to: server}), "socks5://%s", named("example.com", 443), "203.0.113.7:443"},
		{"SOCKS with names", socksProxy(t, &testProxy{to: server}), "socks5h://%s", fake, "example.com:443"},
		{"SOCKS with names, an address", socksProxy(t, &testProxy{to: server}), "socks5h://%s", addr, "203.0.113.9:80"},
		{"SOCKS with a name that the guest says", socksProxy(t, &testProxy{to: server}), "socks5h://%s", named("Example.com.", 443), "example.com:443"},
		{"SOCKS with a password", socksProxy(t, &testProxy{to: server, user: "me:se:cret"}), "socks5://me:se:cret@%s", addr, "203.0.113.9:80"},
		{"SOCKS with a password unasked", socksProxy(t, &testProxy{to: server}), "socks5://me:secret@%s", addr, "203.0.113.9:80"},
		{"HTTP", httpProxy(t, &testProxy{to: server}, nil), "http://%s", addr, "203.0.113.9:80"},
		{"HTTP, IPv6", httpProxy(t, &testProxy{to: server}, nil), "http://%s/", addr6, "[2001:db8::1]:80"},
		{"HTTP with a name", httpProxy(t, &testProxy{to: server}, nil), "http://%s", fake, "example.com:443"},
		{"HTTP with a password", httpProxy(t, &testProxy{to: server, user: "me:p@ss"}, nil), "http://me:p%%40ss@%s", fake, "example.com:443"},
		{"HTTPS", httpProxy(t, &testProxy{to: server}, trusted), "https://%s", fake, "example.com:443"},
	} {
		p := mustProxy(t, fmt.Sprintf(c.url, c.proxy.addr))
		g := gate(Options{Proxy: p, Names: names, Lookup: lookup})
		conn, err := g.DialTCP(t.Context(), c.to)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if err := roundTrip(conn); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if got := c.proxy.took(); !slices.Equal(got, []string{c.asked}) {
			t.Errorf("%s: the proxy is asked for %q, not %q", c.what, got, c.asked)
		}
	}
}

// trusted is a certificate for 127.0.0.1 that the host's roots know.
var trusted *tls.Config

// TestMain has the host trust a certificate: the roots are read once in a
// process.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "egress")
	if err == nil {
		var der []byte
		if trusted, der, err = certificate(); err == nil {
			file := filepath.Join(dir, "roots.pem")
			err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
			os.Setenv("SSL_CERT_FILE", file)
			os.Setenv("SSL_CERT_DIR", dir)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func certificate() (*tls.Config, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, der, err
}

func TestProxyUntrusted(t *testing.T) {
	config, _, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	p := httpProxy(t, &testProxy{}, config)
	g := gate(Options{Proxy: mustProxy(t, "https://"+p.addr.String())})
	_, err = g.DialTCP(t.Context(), at(netip.MustParseAddrPort("203.0.113.9:80")))
	if !errors.Is(err, syscall.EHOSTUNREACH) || !strings.Contains(err.Error(), "begin TLS") || len(p.took()) > 0 {
		t.Errorf("%v", err)
	}
}

// What a proxy refuses is the destination's error; what it cannot do is its own.
func TestProxyRefuses(t *testing.T) {
	for _, c := range []struct {
		kind, answer string
		want         syscall.Errno
		says         string // where the proxy fails
	}{
		{"socks5", "\x01", syscall.EHOSTUNREACH, ""},
		{"socks5", "\x02", syscall.EPERM, ""},
		{"socks5", "\x03", syscall.ENETUNREACH, ""},
		{"socks5", "\x04", syscall.EHOSTUNREACH, ""},
		{"socks5", "\x05", syscall.ECONNREFUSED, ""},
		{"socks5", "\x06", syscall.ETIMEDOUT, ""},
		{"http", "HTTP/1.1 403 Forbidden\r\n\r\n", syscall.EPERM, ""},
		{"http", "HTTP/1.0 502 Bad Gateway\r\nX: y\r\n\r\nbody", syscall.EHOSTUNREACH, ""},
		{"http", "HTTP/1.1 503\r\n\r\n", syscall.EHOSTUNREACH, ""},
		{"http", "HTTP/1.1 504 Gateway Timeout\n\n", syscall.ETIMEDOUT, ""},
		{"http", "HTTP/1.1 301 Moved\r\n\r\n", syscall.EHOSTUNREACH, ""},
		{"http", "HTTP/1.1 407 Who\r\n\r\n", syscall.EHOSTUNREACH, "user name and a password"},
		{"http", "HTTP/1.0 401 Unauthorized\r\n\r\n", syscall.EHOSTUNREACH, "user name and a password"},
		{"http", "SSH-2.0-OpenSSH\r\n\r\n", syscall.EHOSTUNREACH, "no HTTP proxy"},
		{"http", "HTTP/2 200\r\n\r\n", syscall.EHOSTUNREACH, "no HTTP proxy"},
		{"http", "HTTP/1.1 2000\r\n\r\n", syscall.EHOSTUNREACH, "no HTTP proxy"},
		{"http", "HTTP/1.1 200 OK\r\n", syscall.EHOSTUNREACH, "unexpected EOF"},
		{"http", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", maxHeader/6), syscall.EHOSTUNREACH, "longer than"},
		{"http", strings.Repeat("HTTP/1.1 100 Go on\r\n\r\n", 9), syscall.EHOSTUNREACH, "1xx"},
	} {
		p := &testProxy{refusal: c.answer}
		if c.kind == "http" {
			httpProxy(t, p, nil)
		} else {
			socksProxy(t, p)
		}
		var log lines
		g := gate(Options{Proxy: mustProxy(t, c.kind+"://"+p.addr.String()), Log: log.add})
		conn, err := g.DialTCP(t.Context(), at(netip.MustParseAddrPort("203.0.113.9:80")))
		if conn != nil || !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.answer, err, c.want)
			continue
		}
		if got := socks5.ReplyFor(err).Errno(); got != c.want {
			t.Errorf("%q: the guest is told %v, want %v", c.answer, got, c.want)
		}
		if said := strings.Join(log.get(), "\n"); (c.says == "") != (said == "") || !strings.Contains(said, c.says) {
			t.Errorf("%q: the user is told %q, want %q", c.answer, said, c.says)
		}
		if g.Denials() != 0 {
			t.Errorf("%q: counted as a denial", c.answer)
		}
	}
}

// Data may follow a proxy's answer at once.
func TestProxyEarlyData(t *testing.T) {
	p := httpProxy(t, &testProxy{refusal: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\r\nhello"}, nil)
	g := gate(Options{Proxy: mustProxy(t, "http://"+p.addr.String())})
	conn, err := g.DialTCP(t.Context(), at(netip.MustParseAddrPort("203.0.113.9:80")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "\r\nhello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Without its proxy nothing gets out, and the user is told why, once.
func TestProxyFailsClosed(t *testing.T) {
	reached := make(chan struct{}, 100)
	server := serveTCP(t, "127.0.0.1:0", func(net.Conn) { reached <- struct{}{} })
	names := NewFakeNames()
	lookup := func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{server.Addr()}, nil }
	for _, scheme := range []string{"socks5", "socks5h", "http", "https"} {
		var log lines
		dead := unusedPort(t, "127.0.0.1")
		g := gate(Options{Proxy: mustProxy(t, scheme+"://"+dead.String()), Names: names, Lookup: lookup, Log: log.add})
		for _, to := range []socks5.Address{at(server), named("example.com", server.Port()), at(netip.AddrPortFrom(names.Assign("example.com"), server.Port()))} {
			if _, err := g.DialTCP(t.Context(), to); !errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s, %v: %v", scheme, to, err)
			}
		}
		if said := log.get(); len(said) != 1 || !strings.Contains(said[0], dead.String()) || !strings.Contains(said[0], "refused") {
			t.Errorf("%s: the user is told %q", scheme, said)
		}
	}
	select {
	case <-reached:
		t.Error("a connection went around the proxy")
	default:
	}
}

func TestProxySilent(t *testing.T) {
	asked := make(chan struct{}, 1)
	silent := serveTCP(t, "127.0.0.1:0", func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	for _, scheme := range []string{"socks5", "http", "https"} {
		g := gate(Options{Proxy: mustProxy(t, scheme+"://"+silent.String())})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		if _, err := g.DialTCP(ctx, at(netip.MustParseAddrPort("203.0.113.9:80"))); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", scheme, err)
		}
		cancel()
	}
}

// The policy is asked about the destination and not about the proxy.
func TestProxyPolicy(t *testing.T) {
	server := serveTCP(t, "127.0.0.1:0", echo)
	p := socksProxy(t, &testProxy{to: server})
	names := NewFakeNames()
	g := gate(Options{
		Proxy: mustProxy(t, "socks5h://"+p.addr.String()), Names: names,
		Policy: &lax{deny: []string{"127.0.0.1", "evil.example", "203.0.113.66"}},
	})
	if conn, err := g.DialTCP(t.Context(), at(netip.MustParseAddrPort("203.0.113.9:80"))); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	p.took()
	for _, to := range []socks5.Address{
		at(netip.MustParseAddrPort("203.0.113.66:80")),
		at(netip.AddrPortFrom(names.Assign("evil.example"), 80)),
		named("EVIL.example.", 80),
		at(netip.MustParseAddrPort("198.18.255.1:80")), // stands for nothing
		named("a b", 80),
		named("x\r\nY: z", 80),
	} {
		if _, err := g.DialTCP(t.Context(), to); !errors.Is(err, syscall.EPERM) {
			t.Errorf("%v: %v", to, err)
		}
	}
	if asked := p.took(); len(asked) > 0 {
		t.Errorf("the proxy was asked for %q", asked)
	}
	// The host itself is beside the proxy.
	conn, err := g.DialTCP(t.Context(), at(netip.AddrPortFrom(netip.MustParseAddr("198.18.0.2"), server.Port())))
	if err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(conn); err != nil || len(p.took()) > 0 {
		t.Error(err)
	}
}

func TestProxyFromEnv(t *testing.T) {
	server := serveTCP(t, "127.0.0.1:0", echo)
	p := httpProxy(t, &testProxy{to: server}, nil)
	proxy, err := ParseProxy("env", getenv("https_proxy="+p.addr.String(), "NO_PROXY=direct.example,192.0.2.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	if !proxy.ResolvesNames() {
		t.Error("an HTTP proxy is not given names")
	}
	names := NewFakeNames()
	var looked []string
	g := gate(Options{
		Proxy: proxy, Names: names, Policy: &lax{deny: []string{"192.0.2.1"}},
		Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
			looked = append(looked, name)
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil // denied: it is not dialled
		},
	})
	for _, to := range []socks5.Address{
		at(netip.MustParseAddrPort("203.0.113.9:80")),
		at(netip.AddrPortFrom(names.Assign("other.example"), 443)),
	} {
		conn, err := g.DialTCP(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if got := p.took(); !slices.Equal(got, []string{"203.0.113.9:80", "other.example:443"}) {
		t.Errorf("the proxy is asked for %q", got)
	}
	if _, err := g.DialTCP(t.Context(), at(netip.AddrPortFrom(names.Assign("www.direct.example"), 443))); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a name without a proxy: %v", err)
	}
	if !slices.Equal(looked, []string{"www.direct.example"}) || len(p.took()) > 0 {
		t.Errorf("looked up: %q", looked)
	}
}

func TestParseProxy(t *testing.T) {
	for _, c := range []struct {
		in, env string
		address string
		fails   string
	}{
		{"socks5://proxy.example:1081", "", "proxy.example:1081", ""},
		{"socks5h://proxy.example", "", "proxy.example:1080", ""},
		{"http://proxy.example", "", "proxy.example:80", ""},
		{"https://[2001:db8::1]/", "", "[2001:db8::1]:443", ""},
		{"HTTP://user:pa%40ss@proxy.example:3128", "", "proxy.example:3128", ""},
		{"env", "ALL_PROXY=socks5h://p:1", "p:1", ""},
		{"env", "https_proxy=p:3128", "p:3128", ""},
		{"env", "", "", "neither HTTPS_PROXY nor ALL_PROXY is set"},
		{"env", "HTTPS_PROXY=ftp://p:1", "", `HTTPS_PROXY="ftp://p:1" has the scheme ftp`},
		{"", "", "", "says not what kind"},
		{"proxy.example:3128", "", "", "write socks5://"},
		{"127.0.0.1:3128", "", "", "write socks5://"},
		{"proxy", "", "", "says not what kind"},
		{"http:proxy:1", "", "", "says not what kind"},
		{"ftp://proxy:1", "", "", "has the scheme ftp"},
		{"socks4://proxy:1", "", "", "has the scheme socks4"},
		{"http://", "", "", "names no host"},
		{"http://:80", "", "", "names no host"},
		{"http://]0", "", "", "neither a name nor an address"},
		{"http://proxy:99999", "", "", "99999"},
		{"http://proxy:0", "", "", "has the port 0"},
		{"http://proxy:x", "", "", "is not a URL"},
		{"http://proxy/pac", "", "", "goes on after"},
		{"http://proxy?x", "", "", "goes on after"},
		{"http://me:secret@pro xy:1", "", "", "is not a URL"},
		{"me:secret@proxy:1", "", "", "write socks5://"},
		{"socks5://" + strings.Repeat("u", 256) + ":secret@p", "", "", "255 bytes"},
	} {
		p, err := ParseProxy(c.in, getenv(c.env))
		switch {
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%q: %v, want %q", c.in, err, c.fails)
		case c.fails == "" && err != nil:
			t.Errorf("%q: %v", c.in, err)
		case c.fails == "" && p.all.address != c.address:
			t.Errorf("%q: %q, want %q", c.in, p.all.address, c.address)
		}
	}
	if (*Proxy)(nil).ResolvesNames() || mustProxy(t, "socks5://p").ResolvesNames() || !mustProxy(t, "socks5h://p").ResolvesNames() {
		t.Error("who is given names")
	}
}

func FuzzReadStatus(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest")
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 502\n\n")
	f.Add("HTTP/1.1 2")
	f.Fuzz(func(t *testing.T, in string) {
		r := strings.NewReader(in)
		s, err := readStatus(r)
		used := len(in) - r.Len()
		if used > maxHeader {
			t.Errorf("%q: %d bytes are read", in, used)
		}
		if err == nil && (s.code < 200 || s.code > 999 || !strings.HasSuffix(in[:used], "\n")) {
			t.Errorf("%q: %+v after %q", in, s, in[:used])
		}
	})
}

func FuzzParseProxy(f *testing.F) {
	f.Add("http://user:secret@host:80/")
	f.Add("socks5h://[::1]:1")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseProxy(s, getenv("ALL_PROXY="+s))
		if err != nil {
			return
		}
		if _, _, err := net.SplitHostPort(p.all.address); err != nil || p.all.host == "" {
			t.Errorf("%q: %q, %v", s, p.all.address, err)
		}
		if _, err := url.Parse(s); err != nil && s != ProxyFromEnv {
			t.Errorf("%q is no URL", s)
		}
	})
}
