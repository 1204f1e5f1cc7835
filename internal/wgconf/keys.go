package wgconf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bake/internal/wire"
)

// A key is one that a section may have. set takes a value, or of a list one
// item after the other; it may be given more than once then.
type key struct {
	name string
	list bool
	set  func(p *parser, value string) error
}

// interfaceKeys are those of [Interface] in wg(8) and wg-quick(8), in lower case.
var interfaceKeys = map[string]key{
	"privatekey": {name: "PrivateKey", set: func(p *parser, v string) (err error) {
		p.config.Tunnel.PrivateKey, err = privateKey(v)
		return err
	}},
	"listenport": {name: "ListenPort", set: func(p *parser, v string) (err error) {
		p.config.Tunnel.ListenPort, err = number16(v, "a UDP port")
		return err
	}},
	"fwmark": {name: "FwMark", set: func(p *parser, v string) (err error) {
		p.config.Tunnel.FwMark, err = fwMark(v)
		return err
	}},
	"address": {name: "Address", list: true, set: (*parser).address},
	"dns":     {name: "DNS", list: true, set: (*parser).dns},
	"mtu": {name: "MTU", set: func(p *parser, v string) (err error) {
		p.config.Tunnel.MTU, err = mtu(v)
		return err
	}},
	"table":    {name: "Table", set: (*parser).table},
	"preup":    hostCommand("PreUp"),
	"postup":   hostCommand("PostUp"),
	"predown":  hostCommand("PreDown"),
	"postdown": hostCommand("PostDown"),
	"saveconfig": {name: "SaveConfig", set: func(p *parser, v string) error {
		switch v {
		case "true":
			p.config.warn("%s, line %d: SaveConfig is not heeded, because bake never writes to this file", p.config.Path, p.line)
		case "false":
		default:
			return errors.New("it is neither true nor false")
		}
		return nil
	}},
}

// peerKeys are those of [Peer] in wg(8), in lower case.
var peerKeys = map[string]key{
	"publickey": {name: "PublicKey", set: func(p *parser, v string) error {
		if err := p.peer().PublicKey.UnmarshalText([]byte(v)); err != nil {
			return err
		}
		if p.peer().PublicKey == (wire.WireGuardKey{}) {
			return errors.New("it is all zeros, which is nobody's")
		}
		return nil
	}},
	"presharedkey": {name: "PresharedKey", set: func(p *parser, v string) error {
		return p.peer().PresharedKey.UnmarshalText([]byte(v)) // zeros are none
	}},
	"endpoint": {name: "Endpoint", set: func(p *parser, v string) (err error) {
		p.config.endpointLines[len(p.config.endpointLines)-1] = p.line
		p.peer().Endpoint, err = endpoint(v)
		return err
	}},
	"allowedips": {name: "AllowedIPs", list: true, set: (*parser).allowedIP},
	"persistentkeepalive": {name: "PersistentKeepalive", set: func(p *parser, v string) (err error) {
		if v != "off" {
			p.peer().Keepalive, err = number16(v, "a number of seconds")
		}
		return err
	}},
}

// hostCommand refuses a command. Such a line may be what makes a configuration
// safe, a firewall that lets out nothing but the tunnel, so it cannot be let
// drop in silence.
func hostCommand(name string) key {
	return key{name: name, set: func(*parser, string) error {
		return errors.New("it is a command for a host with wg-quick, and the guest that has the tunnel may not even have a shell: remove the line or put # before it")
	}}
}

// peer is that of the current section.
func (p *parser) peer() *wire.WireGuardPeer {
	peers := p.config.Tunnel.Peers
	return &peers[len(peers)-1]
}

func (p *parser) address(value string) error {
	addr, err := prefix(value)
	if err != nil {
		return err
	}
	switch a := addr.Addr(); {
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback():
		return fmt.Errorf("%s is not an address that an interface can have", addr.Addr())
	case slices.ContainsFunc(p.config.Tunnel.Addresses, func(b netip.Prefix) bool { return a == b.Addr() }):
		return fmt.Errorf("%s is there twice", a)
	}
	p.config.Tunnel.Addresses = append(p.config.Tunnel.Addresses, addr)
	return nil
}

func (p *parser) dns(value string) error {
	c := p.config
	if addr, err := netip.ParseAddr(value); err == nil {
		switch {
		case addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast():
			return fmt.Errorf("%s is not the address of a name server", addr)
		case slices.Contains(c.DNS, addr.Unmap()):
			return fmt.Errorf("%s is there twice", addr)
		}
		c.DNS = append(c.DNS, addr.Unmap())
		return nil
	}
	name, err := domain(value)
	if err != nil {
		return fmt.Errorf("it is neither the address of a name server nor a domain to search in: %w", err)
	}
	if !slices.Contains(c.Search, name) {
		c.Search = append(c.Search, name)
	}
	return nil
}

// The names of routing tables that every system has (rtnetlink(7)).
var tables = map[string]uint32{"default": 253, "main": 254}

func (p *parser) table(value string) error {
	t := &p.config.Tunnel
	switch lower := strings.ToLower(value); lower {
	case "auto":
	case "off":
		t.NoRoutes = true
	case "main", "default":
		t.Table = tables[lower]
	default:
		n, err := number32(value)
		switch {
		case err != nil || n == 0:
			return fmt.Errorf("%s is neither auto nor off nor the number of a routing table", quote(value))
		case n == 255:
			return errors.New("255 is the table of the guest's own addresses, which the kernel keeps")
		}
		t.Table = n
	}
	return nil
}

func (p *parser) allowedIP(value string) error {
	allowed, err := prefix(value)
	if err != nil {
		return err
	}
	allowed = allowed.Masked()
	if first := p.allowed[allowed]; first != 0 {
		return fmt.Errorf("%s is on line %d too, and just one peer can have it", allowed, first)
	}
	p.allowed[allowed] = p.line
	p.peer().AllowedIPs = append(p.peer().AllowedIPs, allowed)
	return nil
}
