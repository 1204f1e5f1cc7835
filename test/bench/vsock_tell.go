//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"bake/test/bench/traffic"
)

// orders is the connection that the guest takes orders on.
type orders struct {
	in  *json.Decoder
	out *json.Encoder
}

func newOrders(conn io.ReadWriter) *orders {
	return &orders{json.NewDecoder(conn), json.NewEncoder(conn)}
}

func (o *orders) do(order traffic.Order) (traffic.Result, error) {
	var r traffic.Result
	if err := o.out.Encode(order); err != nil {
		return r, fmt.Errorf("give the guest an order: %w", err)
	}
	if err := o.in.Decode(&r); err != nil {
		return r, fmt.Errorf("learn what became of an order: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

func (o *orders) powerOff() error {
	if err := o.out.Encode(traffic.Order{Op: traffic.OrderPowerOff}); err != nil {
		return fmt.Errorf("have the guest power off: %w", err)
	}
	return nil
}

// tell adds the rows of the table.
func (g *trafficGuest) tell(tab *table) {
	v, serial, slirp := g.transports[0], g.transports[1], g.transports[2]
	for _, t := range g.transports {
		for _, who := range []int{byGuest, byHost} {
			t.tell(tab, who)
		}
	}
	up := v.toHost[byGuest]
	tab.atLeast("guest→host, MB/s", up.text("%.0f"), up.median(), 250, " MB/s")
	r := ratioOf(up, slirp.toHost[byGuest])
	tab.atLeast("guest→host, vsock / slirp", r.String(), r.value, 4, "×")
	r = ratioOf(v.toGuest[byHost], slirp.toGuest[byHost])
	tab.atLeast("host→guest, vsock / slirp, host dials", r.String(), r.value, 2, "×")
	r = ratioOf(v.toGuest[byGuest], slirp.toGuest[byGuest])
	tab.atLeast("host→guest, vsock / slirp, guest dials", r.String(), r.value, 2, "×")
	tab.figure("guest→host, vsock / serial", ratioOf(v.toHost[byHost], serial.toHost[byHost]).String())
	tab.figure("host→guest, vsock / serial", ratioOf(v.toGuest[byHost], serial.toGuest[byHost]).String())
	tab.figure("latency, vsock / slirp, guest dials", ratioOf(v.p50[byGuest], slirp.p50[byGuest]).String())
	tab.figure("latency, vsock / slirp, host dials", ratioOf(v.p50[byHost], slirp.p50[byHost]).String())
	tab.figure("latency, vsock / serial", ratioOf(v.p50[byHost], serial.p50[byHost]).String())
	for _, who := range []int{byGuest, byHost} {
		tab.figure("connections a second, vsock / slirp, "+dialler[who], ratioOf(v.connects[who], slirp.connects[who]).String())
	}
	for _, who := range []int{byGuest, byHost} {
		failed := v.crowdFailed[who]
		value := fmt.Sprintf("%d of %d failed", failed, v.crowdStreams[who])
		if failed > 0 {
			value += ": " + v.crowdReason[who]
		}
		tab.judge(fmt.Sprintf("%d at once, vsock, %s", crowd, dialler[who]), value, "none fails", failed == 0, 1+float64(failed)/float64(v.crowdStreams[who]))
	}
}

// tell adds what one transport did, for one of who dials.
func (t *transport) tell(tab *table, who int) {
	if who == byGuest && !t.guestDials {
		return
	}
	row := func(name, value string) { tab.figure(fmt.Sprintf("%s, %s: %s", t.name, dialler[who], name), value) }
	row("guest→host, MB/s", t.toHost[who].text("%.0f"))
	row("host→guest, MB/s", t.toGuest[who].text("%.0f"))
	row("1 byte there and back, median, µs", t.p50[who].text("%.0f"))
	row("1 byte there and back, p99, µs", t.p99[who].text("%.0f"))
	if t.stream != nil {
		return
	}
	row("connections a second", t.connects[who].text("%.0f"))
	at := t.crowdTook[who].text("%.2f")
	if n := t.crowdFailed[who]; n > 0 {
		at = fmt.Sprintf("%d of %d failed", n, t.crowdStreams[who])
	}
	row(fmt.Sprintf("%d at once, s", crowd), at)
}
