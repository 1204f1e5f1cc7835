//go:build linux

package wireguard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"bake/internal/wire"
)

const (
	// beginTime is how long programs wait for the names of endpoints, and
	// beginPause the time between two tries.
	beginTime  = 10 * time.Second
	beginPause = 250 * time.Millisecond
	// checkPause is the time between two looks at the peers, and missingPause
	// while the name of one was never found.
	checkPause   = 30 * time.Second
	missingPause = 5 * time.Second
	// silent is the age of the last handshake from which on a peer that is sent
	// to does not answer: a new one is due after 120 seconds (REKEY_AFTER_TIME
	// of the WireGuard paper, section 6.1), and tried again every 5.
	silent = 135 * time.Second
	// patience is for how long it must have been so: a tunnel that was not used
	// needs a moment for its handshake when it is used again.
	patience = 20 * time.Second
	// lookups is how many names are looked up at once.
	lookups = 8
)

// A device is what the keeper needs of the interface.
type device interface {
	peers() (map[wire.WireGuardKey]peerState, error)
	setEndpoint(key wire.WireGuardKey, to netip.AddrPort) error
}

// A peerState is what the kernel knows of a peer.
type peerState struct {
	endpoint  netip.AddrPort // not valid where there is none
	handshake time.Time      // the last one; zero where there was none
	sent      int64          // bytes, handshakes that were tried among them
}

// A namedPeer is one whose endpoint has a name.
type namedPeer struct {
	key  wire.WireGuardKey
	name string
	port uint16
	// sent is what the peer was sent up to the last look.
	sent int64
	// unanswered is since when it was sent to without an answer.
	unanswered time.Time
	// warned keeps from saying the same again.
	warned bool
}

// A keeper gives peers the addresses behind their names: when the tunnel
// begins, and again when one does not answer. The addresses behind names change,
// and the kernel knows no names.
type keeper struct {
	peers  []*namedPeer
	device device
	lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	now    func() time.Time
	warn   func(format string, args ...any)
	log    func(format string, args ...any)
}

func newKeeper(w *wire.WireGuard, d device, lookup func(context.Context, string) ([]netip.Addr, error), o Options) *keeper {
	k := &keeper{device: d, lookup: lookup, now: time.Now, warn: o.Warn, log: o.Log}
	for _, p := range w.Peers {
		if p.Endpoint.Name != "" {
			k.peers = append(k.peers, &namedPeer{key: p.PublicKey, name: p.Endpoint.Name, port: p.Endpoint.Port})
		}
	}
	return k
}

// begin gives every peer its first endpoint. It returns when all have one, or
// are known to have none, or beginTime is over.
func (k *keeper) begin(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beginTime)
	defer cancel()
	k.each(k.peers, func(p *namedPeer) {
		for {
			err := k.point(ctx, p, netip.AddrPort{})
			if err == nil {
				return
			}
			if !errors.Is(err, errNoName) {
				select {
				case <-time.After(beginPause):
					continue
				case <-ctx.Done():
				}
			}
			k.complain(p, err)
			return
		}
	})
}

// run looks after the peers until ctx ends.
func (k *keeper) run(ctx context.Context) {
	pause := missingPause
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = checkPause
		if missing := k.check(ctx); missing {
			pause = missingPause
		}
	}
}

// check looks up the names of the peers that have no endpoint and of those that
// do not answer, and says whether one still has none.
func (k *keeper) check(ctx context.Context) (missing bool) {
	states, err := k.device.peers()
	if err != nil {
		// Whoever removed the interface wanted it gone.
		k.log("look at the WireGuard peers: %v", err)
		return false
	}
	var due []*namedPeer
	for _, p := range k.peers {
		state, ok := states[p.key]
		if !ok {
			continue // removed by somebody in the guest
		}
		if k.answers(p, state) {
			p.unanswered = time.Time{}
		} else if p.unanswered.IsZero() {
			p.unanswered = k.now()
		}
		lost := !p.unanswered.IsZero() && k.now().Sub(p.unanswered) >= patience
		if lost || !state.endpoint.IsValid() {
			p.unanswered = time.Time{}
			due = append(due, p)
		}
	}
	var mu sync.Mutex
	k.each(due, func(p *namedPeer) {
		ctx, cancel := context.WithTimeout(ctx, beginTime)
		defer cancel()
		current := states[p.key].endpoint
		if err := k.point(ctx, p, current); err != nil && ctx.Err() == nil {
			k.complain(p, err)
		} else if err == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		missing = missing || !current.IsValid()
	})
	return missing
}

// answers says whether a peer answers, or nothing is asked of it: a tunnel that
// is not used has no handshakes and needs none.
func (k *keeper) answers(p *namedPeer, state peerState) bool {
	used := state.sent > p.sent
	p.sent = state.sent
	return !used || k.now().Sub(state.handshake) <= silent
}

// each calls f for all peers, for a few at a time.
func (k *keeper) each(peers []*namedPeer, f func(*namedPeer)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, lookups)
	for _, p := range peers {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(p)
		})
	}
}

// point looks the peer's name up and makes an address of it the endpoint: the
// first, or if that is the current one, which does not answer, the one after it.
func (k *keeper) point(ctx context.Context, p *namedPeer, current netip.AddrPort) error {
	addrs, err := k.lookup(ctx, p.name)
	if err != nil {
		return err
	}
	to := netip.AddrPortFrom(addrs[0], p.port)
	if i := slices.Index(addrs, current.Addr()); i >= 0 {
		to = netip.AddrPortFrom(addrs[(i+1)%len(addrs)], p.port)
	}
	p.warned = false
	if to == current {
		return nil
	}
	if err := k.device.setEndpoint(p.key, to); err != nil {
		return err
	}
	k.log("the WireGuard peer %s is at %s", p.name, to)
	return nil
}

// complain says once that a peer cannot be found.
func (k *keeper) complain(p *namedPeer, err error) {
	if p.warned {
		return
	}
	p.warned = true
	k.warn("the WireGuard peer %s cannot be reached for now: %v; its name is looked up again while the guest runs", p.name, err)
}

// kernelDevice is an interface of the kernel's.
type kernelDevice struct {
	client *wgctrl.Client
	name   string
}

func (d *kernelDevice) peers() (map[wire.WireGuardKey]peerState, error) {
	dev, err := d.client.Device(d.name)
	if err != nil {
		return nil, err
	}
	states := make(map[wire.WireGuardKey]peerState, len(dev.Peers))
	for _, p := range dev.Peers {
		s := peerState{handshake: p.LastHandshakeTime, sent: p.TransmitBytes}
		if p.Endpoint != nil {
			a := p.Endpoint.AddrPort()
			s.endpoint = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		}
		states[wire.WireGuardKey(p.PublicKey)] = s
	}
	return states, nil
}

func (d *kernelDevice) setEndpoint(key wire.WireGuardKey, to netip.AddrPort) error {
	return d.client.ConfigureDevice(d.name, wgtypes.Config{Peers: []wgtypes.PeerConfig{{
		PublicKey: wgtypes.Key(key), UpdateOnly: true, Endpoint: net.UDPAddrFromAddrPort(to),
	}}})
}

func seconds(n uint16) time.Duration { return time.Duration(n) * time.Second }
