//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/miekg/dns"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"

	"bake/internal/wgconf"
)

// serveWireGuard [-zone=FILE] CONF is a WireGuard peer in user space. At its
// Addresses are servers that the tunnel alone leads to: on port 80 the one of
// the subcommand http, and with a zone on port 53 the one of dns.
func serveWireGuard(args []string) error {
	zone, args := option(args, "zone")
	if len(args) != 1 {
		return errUsage
	}
	c, err := wgconf.Load(args[0])
	if err != nil {
		return err
	}
	var addrs []netip.Addr
	for _, a := range c.Tunnel.Addresses {
		addrs = append(addrs, a.Addr())
	}
	tun, network, err := netstack.CreateNetTUN(addrs, nil, c.Tunnel.MTU)
	if err != nil {
		return err
	}
	dev := device.NewDevice(tun, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, "world: "))
	if err := dev.IpcSet(deviceSettings(c)); err != nil {
		return err
	}
	if err := dev.Up(); err != nil {
		return err
	}
	for _, a := range addrs {
		ln, err := network.ListenTCPAddrPort(netip.AddrPortFrom(a, 80))
		if err != nil {
			return err
		}
		go func() { fmt.Fprintln(os.Stderr, "world:", http.Serve(ln, testHandler(""))) }()
		if zone == "" {
			continue
		}
		var pc net.PacketConn
		if pc, err = network.ListenUDPAddrPort(netip.AddrPortFrom(a, 53)); err != nil {
			return err
		}
		server := &dns.Server{PacketConn: pc, Handler: zoneHandler{zone, "the tunnel"}}
		go func() { fmt.Fprintln(os.Stderr, "world:", server.ActivateAndServe()) }()
	}
	return untilTerminated()
}

// deviceSettings are c for wireguard-go (https://www.wireguard.com/xplatform).
func deviceSettings(c *wgconf.Config) string {
	var b strings.Builder
	t := c.Tunnel
	fmt.Fprintf(&b, "private_key=%x\nlisten_port=%d\n", t.PrivateKey[:], t.ListenPort)
	for _, p := range t.Peers {
		fmt.Fprintf(&b, "public_key=%x\npreshared_key=%x\n", p.PublicKey[:], p.PresharedKey[:])
		for _, a := range p.AllowedIPs {
			fmt.Fprintf(&b, "allowed_ip=%s\n", a)
		}
	}
	return b.String()
}
