package runflags

import (
	"fmt"

	"github.com/spf13/pflag"

	"bake/internal/app"
	"bake/internal/service/dns"
	"bake/internal/wire"
)

// dnsFlags are how the container's names are resolved, with the flags that
// docker-run(1) has for it.
type dnsFlags struct {
	servers, search, resolv, hosts []string
}

func (f *dnsFlags) register(set *pflag.FlagSet) {
	set.StringArrayVar(&f.servers, "dns", nil, "nameserver to ask in place of the host's: `IP`, IP:PORT or [IPV6]:PORT (repeatable)")
	set.StringArrayVar(&f.search, "dns-search", nil, "search `domain` in place of the host's, or . for none (repeatable)")
	set.StringArrayVar(&f.resolv, "dns-option", nil, "`option` of resolv.conf in place of the host's, such as ndots:2 (repeatable)")
	set.StringArrayVar(&f.hosts, "add-host", nil, "give a name an address: `NAME:IP`, or NAME:"+dns.HostGateway+" for this host (repeatable)")
}

// options adds the flags' values to o. The error is about the flag that cannot
// be so.
func (f *dnsFlags) options(o *app.Options) (err error) {
	if o.DNS, err = all(f.servers, dns.ParseNameserver); err != nil {
		return err
	}
	if n := len(o.DNS); n > dns.MaxNameservers {
		return fmt.Errorf("--dns was given %d times: at most %d nameservers are asked, as by every resolver; leave out those that matter least", n, dns.MaxNameservers)
	}
	if o.DNSSearch, err = all(f.search, dns.ParseSearch); err != nil {
		return err
	}
	if o.DNSOptions, err = all(f.resolv, dns.ParseOption); err != nil {
		return err
	}
	n := wire.DefaultNetwork(false)
	o.AddHosts, err = all(f.hosts, func(v string) (wire.HostEntry, error) { return dns.ParseHost(v, n) })
	return err
}

// all parses each value.
func all[T any](values []string, parse func(string) (T, error)) ([]T, error) {
	var list []T
	for _, v := range values {
		t, err := parse(v)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}
