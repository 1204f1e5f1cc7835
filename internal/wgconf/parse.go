package wgconf

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"bake/internal/wire"
)

// A parser reads one file, line by line.
type parser struct {
	config *Config
	line   int
	// section is "interface" or "peer", in lower case, and empty before the
	// first; seen has the keys of it and their lines.
	section string
	seen    map[string]int
	// interfaceLine is where [Interface] is; 0 is nowhere.
	interfaceLine int
	// allowed are the AllowedIPs of all peers and their lines.
	allowed map[netip.Prefix]int
}

func (p *parser) parse(text string) error {
	text = strings.TrimPrefix(text, "\ufeff") // as some editors of Windows write
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return errors.New("it is not a text file")
	}
	for line := range strings.Lines(text) {
		p.line++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		var at *lineError
		if err := p.parseLine(line); errors.As(err, &at) {
			return at // of a section that ended here
		} else if err != nil {
			return &lineError{p.line, err}
		}
	}
	if p.section == "" {
		return errors.New("it has no [Interface] section, so it is no WireGuard configuration")
	}
	if err := p.endSection(); err != nil {
		return err
	}
	if p.interfaceLine == 0 {
		return errors.New("it has no [Interface] section, which holds the PrivateKey")
	}
	return p.endFile()
}

func (p *parser) parseLine(line string) error {
	if strings.HasPrefix(line, "[") {
		return p.startSection(line)
	}
	key, value, found := strings.Cut(line, "=")
	if !found {
		return errors.New("the line has no '=': write it as Key = Value, a section as [Peer], a comment after #")
	}
	if p.section == "" {
		return errors.New("the first section, [Interface] or [Peer], must begin before this line")
	}
	return p.set(strings.TrimSpace(key), strings.TrimSpace(value))
}

func (p *parser) startSection(line string) error {
	if err := p.endSection(); err != nil {
		return err
	}
	c := p.config
	switch strings.ToLower(line) {
	case "[interface]":
		if p.interfaceLine != 0 {
			return fmt.Errorf("this is a second [Interface] section, and line %d has the first: put all of it into one", p.interfaceLine)
		}
		p.interfaceLine, p.section = p.line, "interface"
	case "[peer]":
		if len(c.Tunnel.Peers) == MaxPeers {
			return fmt.Errorf("this would be the peer number %d: bake takes %d", MaxPeers+1, MaxPeers)
		}
		c.Tunnel.Peers = append(c.Tunnel.Peers, wire.WireGuardPeer{})
		c.peerLines, c.endpointLines = append(c.peerLines, p.line), append(c.endpointLines, 0)
		p.section = "peer"
	default:
		return errors.New("the section is neither [Interface] nor [Peer]")
	}
	clear(p.seen)
	return nil
}

// endSection checks what a section must have.
func (p *parser) endSection() error {
	switch {
	case p.section == "interface" && p.seen["privatekey"] == 0:
		return &lineError{p.interfaceLine, errors.New("the section [Interface] has no PrivateKey: wg genkey makes one")}
	case p.section == "peer" && p.seen["publickey"] == 0:
		line := p.config.peerLines[len(p.config.peerLines)-1]
		return &lineError{line, errors.New("the section [Peer] has no PublicKey, by which a peer is known")}
	}
	return nil
}

// endFile checks what lines say of each other.
func (p *parser) endFile() error {
	c := p.config
	private, err := ecdh.X25519().NewPrivateKey(c.Tunnel.PrivateKey[:])
	if err != nil {
		return fmt.Errorf("compute the interface's public key: %w", err)
	}
	own := wire.WireGuardKey(private.PublicKey().Bytes())
	lines := map[wire.WireGuardKey]int{}
	for i, peer := range c.Tunnel.Peers {
		line := c.peerLines[i]
		if peer.PublicKey == own {
			return &lineError{line, errors.New("the peer has the public key that belongs to this interface's own PrivateKey: give the PublicKey of the other side")}
		}
		if first := lines[peer.PublicKey]; first != 0 {
			return &lineError{line, fmt.Errorf("the peer has the same PublicKey as the one of line %d: put both into one section", first)}
		}
		lines[peer.PublicKey] = line
	}
	t := &c.Tunnel
	if t.MTU == 0 {
		t.MTU = DefaultMTU
	}
	if t.MTU < minMTU6 && slices.ContainsFunc(t.Addresses, func(a netip.Prefix) bool { return a.Addr().Is6() }) {
		return fmt.Errorf("an interface with the MTU %d cannot have an IPv6 address: that needs %d or more", t.MTU, minMTU6)
	}
	return nil
}

// set takes one line of a section.
func (p *parser) set(key, value string) error {
	name := strings.ToLower(key)
	setters := interfaceKeys
	if p.section == "peer" {
		setters = peerKeys
	}
	k, ok := setters[name]
	if !ok {
		return p.unknown(key, name)
	}
	if first := p.seen[name]; first != 0 && !k.list {
		return fmt.Errorf("%s is there twice: line %d has it too", k.name, first)
	}
	p.seen[name] = p.line
	if value == "" && name != "allowedips" { // wg(8) takes a peer without any
		return fmt.Errorf("%s has no value", k.name)
	}
	if !k.list {
		return inKey(k.name, k.set(p, value))
	}
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item == "" {
			if value == "" {
				break
			}
			return fmt.Errorf("%s has a comma with nothing before or after it", k.name)
		}
		if err := k.set(p, item); err != nil {
			return inKey(k.name, err)
		}
	}
	return nil
}

func inKey(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// printable is what may be shown of a key that is not known. A secret that
// stands where a key belongs is longer.
var printable = regexp.MustCompile(`^[A-Za-z]{1,24}$`)

func (p *parser) unknown(key, name string) error {
	other, section := peerKeys, "[Interface]"
	if p.section == "peer" {
		other, section = interfaceKeys, "[Peer]"
	}
	k, elsewhere := other[name]
	switch {
	case elsewhere:
		return fmt.Errorf("%s does not belong into a section %s", k.name, section)
	case printable.MatchString(key):
		return fmt.Errorf("%q is no key of wg(8) or wg-quick(8) for a section %s", key, section)
	}
	return fmt.Errorf("what stands before '=' is no key of wg(8) or wg-quick(8) for a section %s", section)
}
