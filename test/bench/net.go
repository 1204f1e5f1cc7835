//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bake/internal/vsock"
	"bake/internal/wire"
	"bake/test/bench/traffic"
)

// gvproxyModule is the peer: gvisor-tap-vsock, whose gvproxy runs on the host
// and whose vm makes a tap interface in the guest, with vsock between them.
const gvproxyModule = "github.com/containers/gvisor-tap-vsock"

// gvproxyVersion is measured.
const gvproxyVersion = "v0.8.9"

const (
	redisPort = 6379
	gvPort    = 1024 // of vsock, where vm finds gvproxy
	// netTime bounds the whole benchmark.
	netTime = 15 * time.Minute
	// startTime bounds what something that was started takes to be there.
	startTime = time.Minute
)

// A netGuest is an app whose guest has every network that is compared: bake's
// own, a NIC on QEMU's user network, and a tap on gvproxy.
type netGuest struct {
	b       *bench
	dir     string // short: Unix sockets are made in it
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	orders  *orders
	vsock   vsock.Hybrid
	servers netServers
	gvproxy []*exec.Cmd
	pids    netPIDs
	ports   map[string]int // published and forwarded ones of the host

	peers []*netPeer
	fixed fixed
}

// measureNet is the benchmark.
func measureNet(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithTimeout(ctx, netTime)
	defer cancel()
	g, err := b.startNetGuest(ctx)
	if err != nil {
		return err
	}
	err = g.measure(ctx)
	if err := errors.Join(err, g.stop()); err != nil {
		return fmt.Errorf("%w\nwhat the app said:\n%s", err, g.stderr.Bytes())
	}
	g.tell(&b.table)
	return nil
}

// netApp builds the app: a Debian with the programs, the bench's own and vm.
func (b *bench) netApp(ctx context.Context) (string, error) {
	out, err := run(ctx, nil, "scripts/rootfs.sh", "net")
	if err != nil {
		return "", err
	}
	tree := filepath.Join(b.dir, "net-programs")
	bin := filepath.Join(tree, "usr/local/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	if _, err := run(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(bin, "bench-guest"), "./test/bench/guest"); err != nil {
		return "", err
	}
	vm, err := b.gvprogram(ctx, "vm")
	if err != nil {
		return "", err
	}
	tar, app := filepath.Join(b.dir, "net.tar"), filepath.Join(b.dir, "net.app")
	defer os.Remove(tar)
	for _, command := range [][]string{
		{"install", vm, filepath.Join(bin, "gv-vm")},
		{"cp", strings.TrimSpace(out), tar},
		{"tar", "-r", "-f", tar, "-C", tree, "--owner=0", "--group=0", "./usr/local/bin/bench-guest", "./usr/local/bin/gv-vm"},
	} {
		if _, err := run(ctx, nil, command[0], command[1:]...); err != nil {
			return "", err
		}
	}
	return app, b.bake(ctx, tar, app, "--entrypoint", "/usr/local/bin/bench-guest")
}

// gvprogram compiles a program of gvisor-tap-vsock, once for many runs.
func (b *bench) gvprogram(ctx context.Context, name string) (string, error) {
	dir := filepath.Join(b.cache, "gvisor-tap-vsock-"+gvproxyVersion)
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	_, err := run(ctx, []string{"CGO_ENABLED=0", "GOBIN=" + dir, "GOFLAGS="}, "go", "install", gvproxyModule+"/cmd/"+name+"@"+gvproxyVersion)
	return path, err
}

// withNIC writes a QEMU that gives every VM a NIC on its user network, and its
// threads names.
func (b *bench) withNIC(qemu, bus string, forwards string) (string, error) {
	path := filepath.Join(b.dir, "qemu-with-nic")
	script := fmt.Sprintf(`#!/bin/sh
case " $* " in
*" -kernel "*) exec '%[1]s' "$@" -name guest,debug-threads=on -netdev 'user,id=peer-net%[3]s' -device virtio-net-%[2]s,netdev=peer-net ;;
*) exec '%[1]s' "$@" ;;
esac
`, qemu, bus, forwards)
	return path, os.WriteFile(path, []byte(script), 0o755)
}

func (b *bench) startNetGuest(ctx context.Context) (_ *netGuest, err error) {
	app, err := b.netApp(ctx)
	if err != nil {
		return nil, err
	}
	p, err := planOf(ctx, app)
	if err != nil {
		return nil, err
	}
	g := &netGuest{b: b, ports: map[string]int{}}
	for _, name := range []string{"hostnet", "hostnet-redis", "slirp", "slirp-redis", "gvproxy", "gvproxy-redis", "gvproxy-jumbo", "gvproxy-jumbo-redis"} {
		if g.ports[name], err = freePort(); err != nil {
			return nil, err
		}
	}
	bus := "device"
	if strings.Contains(strings.Join(p.Command, " "), "virtio-rng-pci") {
		bus = "pci"
	}
	qemu, err := b.withNIC(p.Command[0], bus, fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d,hostfwd=tcp:127.0.0.1:%d-:%d",
		g.ports["slirp"], traffic.PortGuest, g.ports["slirp-redis"], redisPort))
	if err != nil {
		return nil, err
	}
	if g.dir, err = os.MkdirTemp("/tmp", "bn"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nwhat the app said:\n%s", err, g.stderr.Bytes())
			g.abandon()
		}
	}()
	if err := g.servers.start(g.dir); err != nil {
		return nil, err
	}
	if err := g.startApp(ctx, app, qemu); err != nil {
		return nil, err
	}
	return g, g.join(ctx)
}

// startApp starts the app with a resolv.conf of its own, that names the
// benchmark's DNS server.
func (g *netGuest) startApp(ctx context.Context, app, qemu string) error {
	args := []string{"--memory", "512m", "--allow-host-loopback",
		"-p", fmt.Sprintf("127.0.0.1:%d:%d", g.ports["hostnet"], traffic.PortGuest),
		"-p", fmt.Sprintf("127.0.0.1:%d:%d", g.ports["hostnet-redis"], redisPort)}
	g.cmd = g.resolving(ctx, append(append([]string{app}, args...), "--", "container")...)
	g.cmd.Env = append(g.cmd.Env, "BAKE_QEMU="+qemu, "XDG_RUNTIME_DIR="+g.dir)
	g.cmd.Env = append(g.cmd.Env, environment()...)
	g.cmd.Stderr = &g.stderr
	in, err := g.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	g.orders = newOrders(struct {
		io.Reader
		io.Writer
	}{out, in})
	return g.cmd.Start()
}

// resolving prepares a program in a mount namespace whose /etc/resolv.conf is
// the benchmark's.
func (g *netGuest) resolving(ctx context.Context, args ...string) *exec.Cmd {
	script := `mount --bind "$0" /etc/resolv.conf && exec "$@"`
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "sh", "-c", script, g.servers.resolvConf}, args...)...)
	cmd.Env = os.Environ()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd
}

// do gives the guest an order.
func (g *netGuest) do(o traffic.Order) (traffic.Result, error) { return g.orders.do(o) }

// sh runs a command line in the guest.
func (g *netGuest) sh(line string) (string, error) {
	r, err := g.do(traffic.Order{Op: traffic.OrderRun, Command: []string{"sh", "-e", "-c", line}})
	return r.Output, err
}

// join waits until the guest takes orders and sets up the peers in it.
func (g *netGuest) join(ctx context.Context) error {
	links, err := g.sh("ip link set eth0 up; ip addr add " + traffic.NetAddress + " dev eth0; " +
		"redis-server --daemonize yes --save '' --protected-mode no --bind 0.0.0.0 >/dev/null; ls /sys/class/net")
	if err != nil {
		return fmt.Errorf("set up the guest: %w", err)
	}
	if g.pids, err = findPIDs(g.cmd.Process.Pid); err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(g.dir, "bake", "*", "v.sock"))
	if err != nil || len(paths) != 1 {
		return fmt.Errorf("find the app's vsock in %s: %d sockets, %w", g.dir, len(paths), err)
	}
	g.vsock.Path = paths[0]
	if !strings.Contains(links, "hostnet") {
		return fmt.Errorf("the guest has no interface hostnet, only %s", strings.Fields(links))
	}
	us := wire.DefaultNetwork(false).HostIPv4.String()
	g.peers = append(g.peers, &netPeer{name: "hostnet", host: us, dns: us + ":53", mib: 192},
		&netPeer{name: "slirp", host: traffic.NetHost, dns: "10.0.2.3:53", mib: 96})
	return errors.Join(
		g.joinGvproxy(ctx, "gvproxy", gvPort, "192.168.127", 1500),
		g.joinGvproxy(ctx, "gvproxy-jumbo", gvPort+1, "192.168.126", 65520))
}

// joinGvproxy starts a gvproxy and connects the guest to it. Its network is
// 192.168.127.0/24 unless a configuration says otherwise.
func (g *netGuest) joinGvproxy(ctx context.Context, name string, port int, network string, mtu int) error {
	program, err := g.b.gvprogram(ctx, "gvproxy")
	if err != nil {
		return err
	}
	ssh, err := freePort()
	if err != nil {
		return err
	}
	services := filepath.Join(g.dir, name+".sock")
	config := filepath.Join(g.dir, name+".yaml")
	text := fmt.Sprintf(`stack:
  mtu: %[2]d
  subnet: %[1]s.0/24
  gatewayIP: %[1]s.1
  deviceIP: %[1]s.2
  hostIP: %[1]s.254
  gatewayMacAddress: 5a:94:ef:e4:0c:dd
  nat:
    %[1]s.254: 127.0.0.1
  gatewayVirtualIPs:
    - %[1]s.254
`, network, mtu)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	endpoint := fmt.Sprintf("%s_%d", g.vsock.Path, port)
	cmd := g.resolving(ctx, program, "-config", config, "-listen", "unix://"+endpoint, "-services", "unix://"+services,
		"-ssh-port", fmt.Sprint(ssh), "-mtu", fmt.Sprint(mtu))
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start gvproxy: %w", err)
	}
	g.gvproxy = append(g.gvproxy, cmd)
	if err := waitFor(ctx, endpoint, services); err != nil {
		return fmt.Errorf("start gvproxy: %w", err)
	}
	tap := "tap" + fmt.Sprint(port-gvPort)
	if _, err := g.sh(fmt.Sprintf("ip tuntap add %[1]s mode tap; ip link set %[1]s address 5a:94:ef:e4:0c:ee mtu %[3]d; ip addr add %[2]s.2/24 dev %[1]s; ip link set %[1]s up",
		tap, network, mtu)); err != nil {
		return err
	}
	if _, err := g.do(traffic.Order{Op: traffic.OrderStart, Command: []string{"gv-vm", "-preexisting", "-iface", tap, "-stop-if-exist", "",
		"-url", fmt.Sprintf("vsock://2:%d/connect", port), "-mtu", fmt.Sprint(mtu)}}); err != nil {
		return err
	}
	// Its ping to the gateway is answered when the tap is connected.
	if _, err := g.sh(fmt.Sprintf("for i in $(seq 60); do ! ping -q -c 1 -W 1 %s.1 >/dev/null || exit 0; done; exit 1", network)); err != nil {
		return fmt.Errorf("%s does not answer: %w", name, err)
	}
	for forward, inside := range map[string]int{name: traffic.PortGuest, name + "-redis": redisPort} {
		if err := expose(ctx, services, g.ports[forward], fmt.Sprintf("%s.2:%d", network, inside)); err != nil {
			return err
		}
	}
	g.peers = append(g.peers, &netPeer{name: name, host: network + ".254", dns: network + ".1:53", more: []int{cmd.Process.Pid}, mib: 24})
	return nil
}

// waitFor waits until the files are there.
func waitFor(ctx context.Context, paths ...string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for _, path := range paths {
		for {
			if _, err := os.Stat(path); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for %s: %w", path, ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// expose has gvproxy forward a port of the host's loopback.
func expose(ctx context.Context, services string, port int, to string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", services)
	}}}
	body := fmt.Sprintf(`{"local":"127.0.0.1:%d","remote":"%s","protocol":"tcp"}`, port, to)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gvproxy/services/forwarder/expose", strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("have gvproxy forward a port: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("have gvproxy forward a port: %s %s", resp.Status, text)
	}
	return nil
}

// stop ends the guest and all that was started for it.
func (g *netGuest) stop() error {
	err := g.orders.powerOff()
	if e := g.cmd.Wait(); e != nil {
		err = errors.Join(err, fmt.Errorf("the app: %w", e))
	}
	g.abandon()
	return err
}

// abandon ends whatever still runs.
func (g *netGuest) abandon() {
	for _, cmd := range append(g.gvproxy, g.cmd) {
		if cmd == nil || cmd.Process == nil || cmd.ProcessState != nil {
			continue
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // as it was told
	}
	g.servers.stop()
	os.RemoveAll(g.dir)
}
