package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"bake/internal/socks5"
)

// insideVariable is set for the test's own binary in a network namespace.
const insideVariable = "BAKE_TEST_EGRESS_INSIDE"

// The kernel's errors come through as they are. A namespace of its own has a
// route for each of them; for the rest of the machine nothing changes.
func TestKernelErrors(t *testing.T) {
	if os.Getenv(insideVariable) != "" {
		testInside(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKernelErrors$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if id := os.Getuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

func testInside(t *testing.T) {
	silent := silentNetwork(t)
	for prefix, kind := range map[string]int{
		"198.51.100.0/24": unix.RTN_UNREACHABLE,
		"192.0.2.0/24":    unix.RTN_PROHIBIT,
		"2001:db8:1::/48": unix.RTN_UNREACHABLE,
	} {
		_, dst, err := net.ParseCIDR(prefix)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Type: kind}); err != nil {
			t.Fatalf("make the route %s: %v", prefix, err)
		}
	}
	// One SYN again after a second, and the kernel gives up: tcp(7). The
	// variable is the namespace's own.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_syn_retries", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	g := gate(Options{})
	for dst, want := range map[string]struct {
		errno syscall.Errno
		reply socks5.Reply
	}{
		"10.0.0.1:80":           {syscall.ENETUNREACH, socks5.ReplyNetworkUnreachable},
		"[2001:db8:2::1]:80":    {syscall.ENETUNREACH, socks5.ReplyNetworkUnreachable},
		"198.51.100.1:80":       {syscall.EHOSTUNREACH, socks5.ReplyHostUnreachable},
		"[2001:db8:1::1]:80":    {syscall.EHOSTUNREACH, socks5.ReplyHostUnreachable},
		"192.0.2.1:80":          {syscall.EACCES, socks5.ReplyNotAllowed},
		silent.String() + ":80": {syscall.ETIMEDOUT, socks5.ReplyTimeout},
	} {
		_, err := g.DialTCP(t.Context(), at(netip.MustParseAddrPort(dst)))
		if !errors.Is(err, want.errno) || socks5.ReplyFor(err) != want.reply {
			t.Errorf("%s: %v, reply %v; want %v, %v", dst, err, socks5.ReplyFor(err), want.errno, want.reply)
		}
	}

	// The end of the context ends a connection that nobody answers.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_syn_retries", []byte("6"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := g.DialTCP(ctx, at(netip.AddrPortFrom(silent, 80)))
		ended <- err
	}()
	waitForSYN(t)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
}

// silentNetwork makes an interface behind which nobody answers, and returns an
// address there.
func silentNetwork(t *testing.T) netip.Addr {
	t.Helper()
	link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "silent"}, Mode: netlink.TUNTAP_MODE_TUN}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	ifr, err := unix.NewIfreq(link.Name)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByName(link.Name)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("203.0.113.1/24")
	if err != nil {
		t.Fatal(err)
	}
	// Without an IPv6 address of its own a host cannot even try; and this one
	// may be used before anybody has looked for a duplicate.
	addr6, err := netlink.ParseAddr("2001:db8:9::1/64")
	if err != nil {
		t.Fatal(err)
	}
	addr6.Flags = unix.IFA_F_NODAD
	if err := errors.Join(netlink.AddrAdd(l, addr), netlink.LinkSetUp(l), netlink.AddrAdd(l, addr6)); err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddr("203.0.113.9")
}

// waitForSYN returns when a connection of the namespace waits for an answer.
func waitForSYN(t *testing.T) {
	t.Helper()
	for t.Context().Err() == nil {
		socks, err := netlink.SocketDiagTCP(unix.AF_INET)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range socks {
			if s.State == netlink.TCP_SYN_SENT {
				return
			}
		}
	}
}
