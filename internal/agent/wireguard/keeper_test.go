//go:build linux

package wireguard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bake/internal/wire"
)

// fakeDevice is what the kernel would know.
type fakeDevice struct {
	mu     sync.Mutex
	states map[wire.WireGuardKey]peerState
	set    []string
}

func (d *fakeDevice) peers() (map[wire.WireGuardKey]peerState, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	copied := map[wire.WireGuardKey]peerState{}
	for k, s := range d.states {
		copied[k] = s
	}
	return copied, nil
}

func (d *fakeDevice) setEndpoint(key wire.WireGuardKey, to netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.states[key]
	s.endpoint = to
	d.states[key] = s
	d.set = append(d.set, to.String())
	return nil
}

// traffic is what happens to a peer until the next look.
func (d *fakeDevice) traffic(key wire.WireGuardKey, sent int64, handshake time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.states[key]
	s.sent += sent
	if !handshake.IsZero() {
		s.handshake = handshake
	}
	d.states[key] = s
}

func (d *fakeDevice) taken() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	set := d.set
	d.set = nil
	return set
}

// A phoneBook answers lookups.
type phoneBook struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
	err   error
	asked int
}

func (b *phoneBook) lookup(_ context.Context, name string) ([]netip.Addr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if a, ok := b.addrs[name]; ok {
		return a, nil
	}
	return nil, b.err
}

func (b *phoneBook) write(name string, addrs ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs[name] = nil
	for _, a := range addrs {
		b.addrs[name] = append(b.addrs[name], netip.MustParseAddr(a))
	}
}

func (b *phoneBook) questions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.asked
	b.asked = 0
	return n
}

type keeperTest struct {
	*keeper
	device   *fakeDevice
	book     *phoneBook
	mu       sync.Mutex
	warnings []string
}

func (k *keeperTest) warned() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.warnings)
}

func testKeeper(t *testing.T, names ...string) *keeperTest {
	w := &wire.WireGuard{Peers: []wire.WireGuardPeer{{Endpoint: wire.WireGuardEndpoint{Addr: netip.MustParseAddr("192.0.2.99"), Port: 9}}}}
	k := &keeperTest{device: &fakeDevice{states: map[wire.WireGuardKey]peerState{}}, book: &phoneBook{addrs: map[string][]netip.Addr{}}}
	for i, name := range names {
		key := keyOf(i)
		w.Peers = append(w.Peers, wire.WireGuardPeer{PublicKey: key, Endpoint: wire.WireGuardEndpoint{Name: name, Port: 51820}})
		k.device.states[key] = peerState{}
	}
	k.keeper = newKeeper(w, k.device, k.book.lookup, Options{
		Warn: func(format string, args ...any) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.warnings = append(k.warnings, fmt.Sprintf(format, args...))
		},
		Log: t.Logf,
	})
	return k
}

func keyOf(i int) wire.WireGuardKey { return wire.WireGuardKey{byte(i + 1)} }

func TestBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKeeper(t, "a.example", "b.example", "c.example")
		k.book.write("a.example", "192.0.2.1", "192.0.2.2")
		k.book.write("b.example", "2001:db8::1")
		k.book.err = errors.New("the host's resolver does not answer")
		go func() {
			time.Sleep(beginTime / 2)
			k.book.write("c.example", "192.0.2.3")
		}()
		start := time.Now()
		k.begin(t.Context())
		if waited := time.Since(start); waited >= beginTime { // in the bubble's time
			t.Errorf("it waited for %v after all had an endpoint", waited)
		}
		set := k.device.taken()
		slices.Sort(set)
		if want := []string{"192.0.2.1:51820", "192.0.2.3:51820", "[2001:db8::1]:51820"}; !reflect.DeepEqual(set, want) {
			t.Errorf("the endpoints are %q, want %q", set, want)
		}
		if w := k.warned(); len(w) != 0 {
			t.Errorf("it warned: %q", w)
		}
	})
}

func TestBeginInVain(t *testing.T) {
	for _, tt := range []struct {
		err    error
		waited time.Duration
	}{
		{errNoName, 0}, // there is nothing to wait for
		{errors.New("the host's resolver does not answer"), beginTime},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := testKeeper(t, "a.example")
			k.book.err = tt.err
			start := time.Now()
			k.begin(t.Context())
			if waited := time.Since(start); waited != tt.waited {
				t.Errorf("%v: it waited for %v, want %v", tt.err, waited, tt.waited)
			}
			w := k.warned()
			if len(w) != 1 || !strings.Contains(w[0], "a.example") || !strings.Contains(w[0], tt.err.Error()) {
				t.Errorf("the warnings are %q", w)
			}
		})
	}
}

// A name that comes late is found later, and is not complained of again.
func TestLateName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		k := testKeeper(t, "a.example")
		k.book.err = errNoName
		k.begin(ctx)
		var running sync.WaitGroup
		running.Go(func() { k.run(ctx) })
		time.Sleep(10 * missingPause)
		if n := k.book.questions(); n < 5 {
			t.Errorf("the name was looked up %d times", n)
		}
		k.book.write("a.example", "192.0.2.1")
		time.Sleep(missingPause)
		synctest.Wait() // the keeper wakes at the same instant
		if set := k.device.taken(); !reflect.DeepEqual(set, []string{"192.0.2.1:51820"}) {
			t.Errorf("the endpoints were %q", set)
		}
		if w := k.warned(); len(w) != 1 {
			t.Errorf("the warnings are %q", w)
		}
		cancel()
		running.Wait()
	})
}

// What is looked up again, and when.
func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		k := testKeeper(t, "a.example")
		key := keyOf(0)
		k.book.write("a.example", "192.0.2.1")
		k.begin(ctx)
		k.device.taken()
		k.book.questions()
		look := func(what string, questions int, want ...string) {
			t.Helper()
			time.Sleep(checkPause)
			k.check(ctx)
			if n := k.book.questions(); n != questions {
				t.Errorf("%s: %d questions, want %d", what, n, questions)
			}
			if set := k.device.taken(); !slices.Equal(set, want) {
				t.Errorf("%s: it set %q, want %q", what, set, want)
			}
		}
		look("never used", 0)
		k.device.traffic(key, 100, time.Now())
		look("fresh", 0)
		time.Sleep(time.Hour)
		look("idle for an hour", 0)
		k.device.traffic(key, 148, time.Time{})
		look("used again, no answer yet", 0)
		k.device.traffic(key, 1000, time.Now())
		look("answered", 0)
		time.Sleep(silent)
		k.device.traffic(key, 148, time.Time{})
		look("no answer", 0)
		k.device.traffic(key, 148, time.Time{})
		look("still no answer, and the name as before", 1)
		k.book.write("a.example", "192.0.2.7", "192.0.2.8")
		k.device.traffic(key, 148, time.Time{})
		look("no answer once more", 0)
		k.device.traffic(key, 148, time.Time{})
		look("the name has moved", 1, "192.0.2.7:51820")
		k.device.traffic(key, 148, time.Time{})
		look("no answer there", 0)
		k.device.traffic(key, 148, time.Time{})
		look("the next address", 1, "192.0.2.8:51820")
		k.device.traffic(key, 148, time.Now())
		look("it answers", 0)

		delete(k.device.states, key)
		look("removed by somebody", 0)
	})
}
