package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// ProxyFromEnv is what --proxy says to take the proxy from the environment.
const ProxyFromEnv = "env"

// A Proxy carries the guest's TCP to the outside.
type Proxy struct {
	// all is the server for every destination, unless choose is set.
	all *proxyServer
	// choose finds the environment's proxy for a URL, or nil for none.
	choose func(*url.URL) (*url.URL, error)
}

// A proxyServer is one server of a proxy.
type proxyServer struct {
	kind     proxyKind
	resolves bool   // it takes names
	host     string // as a TLS server is asked for
	address  string // host:port
	user     *url.Userinfo
}

type proxyKind uint8

const (
	proxySOCKS proxyKind = iota
	proxyHTTP
	proxyHTTPS
)

// proxySchemes are the schemes of curl(1) that bake speaks.
var proxySchemes = map[string]struct {
	kind     proxyKind
	resolves bool
	port     uint16
}{
	"socks5":  {proxySOCKS, false, 1080},
	"socks5h": {proxySOCKS, true, 1080},
	"http":    {proxyHTTP, true, 80},
	"https":   {proxyHTTPS, true, 443},
}

// ParseProxy reads the value of --proxy: a URL SCHEME://[USER[:PASSWORD]@]HOST[:PORT]
// of curl's schemes socks5 (which is given addresses), socks5h, http or https
// (which are given names), or "env" for the environment's HTTPS_PROXY or else
// ALL_PROXY, in either case of letters, except for what NO_PROXY names.
// getenv is os.Getenv.
func ParseProxy(s string, getenv func(string) string) (*Proxy, error) {
	if s == ProxyFromEnv {
		return proxyFromEnv(getenv)
	}
	server, err := parseProxy(s)
	if err != nil {
		return nil, fmt.Errorf("--proxy %q %w", hidePassword(s), err)
	}
	return &Proxy{all: server}, nil
}

func proxyFromEnv(getenv func(string) string) (*Proxy, error) {
	var key, value string
	for _, key = range []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		if value = getenv(key); value != "" {
			break
		}
	}
	if value == "" {
		return nil, errors.New("--proxy env: neither HTTPS_PROXY nor ALL_PROXY is set: set one of them, or leave the flag out")
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value // as curl(1) takes it
	}
	server, err := parseProxy(value)
	if err != nil {
		return nil, fmt.Errorf("--proxy env: the environment's %s=%q %w", key, hidePassword(value), err)
	}
	noProxy := getenv("NO_PROXY")
	if noProxy == "" {
		noProxy = getenv("no_proxy")
	}
	cfg := httpproxy.Config{HTTPSProxy: value, NoProxy: noProxy}
	return &Proxy{all: server, choose: cfg.ProxyFunc()}, nil
}

// parseProxy's error goes on after the URL.
func parseProxy(s string) (*proxyServer, error) {
	const write = "write socks5://, socks5h://, http:// or https:// and then HOST:PORT"
	u, err := url.Parse(s)
	if err != nil {
		var syntax *url.Error
		if errors.As(err, &syntax) {
			err = syntax.Err // without the URL, which may have a password
		}
		return nil, fmt.Errorf("is not a URL: %w; %s", err, write)
	}
	scheme, known := proxySchemes[u.Scheme]
	port, host := u.Port(), u.Hostname()
	switch {
	case !strings.Contains(s, "://"):
		return nil, fmt.Errorf("says not what kind of proxy it is: %s, or env", write)
	case !known:
		return nil, fmt.Errorf("has the scheme %s, which bake does not speak: %s", u.Scheme, write)
	case host == "":
		return nil, fmt.Errorf("names no host: %s", write)
	case !plainName(strings.ToLower(host)) && !isAddr(host):
		return nil, fmt.Errorf("has the host %q, which is neither a name nor an address", host)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("goes on after the host and the port: leave the rest out")
	}
	if port == "" {
		port = strconv.Itoa(int(scheme.port))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("has the port %s, which is not a number from 1 to 65535", port)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		if len(u.User.Username()) > 255 || len(password) > 255 {
			return nil, errors.New("has a user name or a password of more than 255 bytes")
		}
	}
	return &proxyServer{
		kind: scheme.kind, resolves: scheme.resolves, host: host, address: net.JoinHostPort(host, port), user: u.User,
	}, nil
}

func isAddr(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// hidePassword is for a URL that need not be one.
func hidePassword(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s
	}
	scheme, _, ok := strings.Cut(s[:at], "://")
	if !ok {
		return "..." + s[at:]
	}
	return scheme + "://..." + s[at:]
}

// ResolvesNames says that the proxy is given names. The guest's resolver then
// answers with [FakeNames].
func (p *Proxy) ResolvesNames() bool { return p != nil && p.all.resolves }

// Carries says that TCP to a destination, a name or an address, goes through
// the proxy. Nothing else gets there then. A nil Proxy carries nothing.
func (p *Proxy) Carries(host string, port uint16) bool {
	if p == nil {
		return false
	}
	s, err := p.server(host, port)
	return s != nil || err != nil
}

// server is the one for a destination, a name or an address, or nil if none is
// to be used.
func (p *Proxy) server(host string, port uint16) (*proxyServer, error) {
	if p.choose == nil {
		return p.all, nil
	}
	u, err := p.choose(&url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(port)))})
	if err != nil {
		return nil, &proxyError{p.all, fmt.Errorf("%s is no URL to find a proxy for: %w", strconv.QuoteToASCII(host), err)}
	}
	if u == nil {
		return nil, nil
	}
	return p.all, nil
}
