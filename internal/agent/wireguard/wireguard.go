//go:build linux

package wireguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"bake/internal/wire"
)

// Options are what a tunnel needs beside its own description.
type Options struct {
	// Network is what the tunnel leaves over.
	Network *wire.Network
	// Hosts are asked for names of endpoints before the host's resolver is.
	Hosts []wire.HostEntry
	// Warn tells the user of something that the guest can go on with.
	Warn func(format string, args ...any)
	// Log tells who debugs what happens.
	Log func(format string, args ...any)
}

// A Tunnel is one that is up.
type Tunnel struct {
	link   netlink.Link
	client *wgctrl.Client
	rules  bool // there are some to remove
	stop   context.CancelFunc
	keeper sync.WaitGroup
}

// Start makes the tunnel, and returns when programs can use it: the names of
// endpoints are looked up, or it took too long, which is a warning. Those are
// looked up again when a peer does not answer any more, until ctx ends or the
// tunnel is closed. The error is a sentence for the user.
func Start(ctx context.Context, w *wire.WireGuard, o Options) (*Tunnel, error) {
	if o.Network == nil {
		return nil, errors.New("the WireGuard tunnel has no network to leave over")
	}
	client, err := wgctrl.New()
	if err != nil {
		return nil, fmt.Errorf("reach the kernel's WireGuard: %w", err)
	}
	link, err := addLink(w)
	if err != nil {
		client.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	t := &Tunnel{link: link, client: client, stop: stop}
	if err := t.start(ctx, w, o); err != nil {
		t.Close()
		return nil, fmt.Errorf("set up the WireGuard interface %s: %w", w.Name, err)
	}
	return t, nil
}

func (t *Tunnel) start(ctx context.Context, w *wire.WireGuard, o Options) error {
	r := planRoutes(w)
	if err := t.client.ConfigureDevice(w.Name, deviceConfig(w, r.mark)); err != nil {
		return fmt.Errorf("give it its keys and peers: %w", err)
	}
	for _, a := range w.Addresses {
		if err := netlink.AddrAdd(t.link, &netlink.Addr{IPNet: ipNet(a)}); err != nil {
			return fmt.Errorf("give it the address %s: %w", a, err)
		}
	}
	if err := netlink.LinkSetUp(t.link); err != nil {
		return fmt.Errorf("start it: %w", err)
	}
	if err := keepHost(o.Network); err != nil {
		return err
	}
	t.rules = r.rules
	if err := r.apply(t.link); err != nil {
		return err
	}
	k := newKeeper(w, &kernelDevice{t.client, w.Name}, newResolver(o).lookup, o)
	if len(k.peers) == 0 {
		return nil
	}
	k.begin(ctx)
	t.keeper.Go(func() { k.run(ctx) })
	return nil
}

// Close removes the interface, and its routes with it, and waits for what
// looks up names.
func (t *Tunnel) Close() error {
	t.stop()
	t.keeper.Wait()
	var err error
	if t.rules {
		err = removeRules()
	}
	return errors.Join(err, netlink.LinkDel(t.link), t.client.Close())
}

func addLink(w *wire.WireGuard) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = w.Name, w.MTU
	link := &netlink.Wireguard{LinkAttrs: attrs}
	err := netlink.LinkAdd(link)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil, errors.New("the guest's kernel has no WireGuard: build the app with bake's own kernel, or with one that has CONFIG_WIREGUARD or its module")
	case errors.Is(err, unix.EEXIST):
		return nil, fmt.Errorf("the guest has an interface called %s already: give the WireGuard configuration file another name, which becomes that of its interface", w.Name)
	case err != nil:
		return nil, fmt.Errorf("make the WireGuard interface %s: %w", w.Name, err)
	}
	return link, nil
}

// deviceConfig is what wg(8) setconf does.
func deviceConfig(w *wire.WireGuard, mark uint32) wgtypes.Config {
	private, fwMark := wgtypes.Key(w.PrivateKey), int(mark)
	c := wgtypes.Config{PrivateKey: &private, FirewallMark: &fwMark, ReplacePeers: true}
	if w.ListenPort != 0 {
		port := int(w.ListenPort)
		c.ListenPort = &port
	}
	for _, p := range w.Peers {
		keepalive := seconds(p.Keepalive)
		peer := wgtypes.PeerConfig{
			PublicKey: wgtypes.Key(p.PublicKey), ReplaceAllowedIPs: true, PersistentKeepaliveInterval: &keepalive,
		}
		if p.PresharedKey != (wire.WireGuardSecret{}) {
			shared := wgtypes.Key(p.PresharedKey)
			peer.PresharedKey = &shared
		}
		if p.Endpoint.Addr.IsValid() {
			peer.Endpoint = net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Endpoint.Addr, p.Endpoint.Port))
		}
		for _, a := range p.AllowedIPs {
			peer.AllowedIPs = append(peer.AllowedIPs, *ipNet(a))
		}
		c.Peers = append(c.Peers, peer)
	}
	return c
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
