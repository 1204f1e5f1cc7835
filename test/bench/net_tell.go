//go:build linux

package main

import "fmt"

// tell adds the rows of the table.
func (g *netGuest) tell(tab *table) {
	peers := map[string]*netPeer{}
	for _, p := range g.peers {
		peers[p.name] = p
		p.tell(tab, g.fixed)
	}
	tab.figure(fmt.Sprintf("vsock, %d round trips at once, a second", redisClients), g.fixed.vsockPing.text("%.0f"))
	for i, test := range redisTests {
		tab.figure("redis "+test+", from within the guest, a second", g.fixed.redisInside[i].text("%.0f"))
	}
	tab.figure("DNS answer to the host itself, µs", g.fixed.resolveAlone.text("%.0f"))
	if ours := peers["hostnet"]; ours != nil {
		ours.compare(tab, peers, g.fixed)
	}
}

func (p *netPeer) tell(tab *table, f fixed) {
	row := func(name string, s samples, format string) {
		if len(s) > 0 {
			tab.figure(p.name+": "+name, s.text(format))
		}
	}
	for d := range directions {
		row(directionName[d]+", MB/s", p.speed[d], "%.0f")
		row(directionName[d]+", host's CPU s/GB", p.cpuHost[d], "%.1f")
		row(directionName[d]+", guest's CPU s/GB", p.cpuGuest[d], "%.1f")
	}
	row(fmt.Sprintf("published, %d round trips at once, a second", redisClients), p.pings, "%.0f")
	row("connections a second", p.connects, "%.0f")
	for i, size := range datagramSizes {
		row(fmt.Sprintf("UDP, %d bytes, guest→host, MB/s", size), p.datagrams[guestToHost][i], "%.1f")
		row(fmt.Sprintf("UDP, %d bytes, guest→host, lost, %%", size), p.lost[guestToHost][i], "%.1f")
		row(fmt.Sprintf("UDP, %d bytes, host→guest, MB/s", size), p.datagrams[hostToGuest][i], "%.1f")
	}
	row("DNS answer, µs", p.resolve, "%.0f")
	for i, test := range redisTests {
		row("redis "+test+", a second", p.redis[i], "%.0f")
	}
}

// compare adds the ratios that have targets.
func (p *netPeer) compare(tab *table, peers map[string]*netPeer, f fixed) {
	against := func(what, peer string, ours, theirs samples, limit float64) {
		if len(ours) == 0 || len(theirs) == 0 {
			tab.figure(what+", hostnet / "+peer, "not measured")
			return
		}
		r := ratioOf(ours, theirs)
		tab.atLeast(what+", hostnet / "+peer, r.String(), r.value, limit, "×")
	}
	slirp, gvproxy, jumbo := peers["slirp"], peers["gvproxy"], peers["gvproxy-jumbo"]
	for _, d := range []int{guestToHost, hostToGuest} {
		against("TCP "+directionName[d], "slirp", p.speed[d], slirp.speed[d], 2)
		against("TCP "+directionName[d], "gvproxy", p.speed[d], gvproxy.speed[d], 1.5)
		// Not what gvproxy does by itself, so this has no target.
		tab.figure("TCP "+directionName[d]+", hostnet / gvproxy with an MTU of 65520", ratioOf(p.speed[d], jumbo.speed[d]).String())
	}
	for _, d := range []int{publishedIn, publishedOut} {
		against("TCP "+directionName[d], "QEMU's hostfwd", p.speed[d], slirp.speed[d], 2)
	}
	for i, size := range datagramSizes {
		against(fmt.Sprintf("UDP, %d bytes, guest→host", size), "slirp", p.datagrams[guestToHost][i], slirp.datagrams[guestToHost][i], 2)
		against(fmt.Sprintf("UDP, %d bytes, host→guest", size), "slirp", p.datagrams[hostToGuest][i], slirp.datagrams[hostToGuest][i], 2)
	}
	for i := range 2 {
		r := ratioOf(p.redis[i], f.vsockPing)
		tab.atLeast("redis "+redisTests[i]+", through -p / vsock's round trips", r.String(), r.value, 0.7, "×")
	}
	tab.figure("published round trips / vsock's", ratioOf(p.pings, f.vsockPing).String())
	added := p.resolve.with(f.resolveAlone, func(a, b float64) float64 { return (a - b) / 1000 })
	tab.figure("DNS answer, in the guest, added to the host's own, ms", added.text("%.2f"))
	added = f.resolveOurs.with(f.resolveAlone, func(a, b float64) float64 { return (a - b) / 1000 })
	tab.atMost("DNS answer, by the service, added to the host's own, ms", added.text("%.2f"), added.median(), 1, " ms")
}
