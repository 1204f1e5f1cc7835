package platform

import (
	"errors"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// In a network of our own, the answer follows the routes.
func TestHasIPv6(t *testing.T) {
	var made error
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine, and the namespace with it.
		runtime.LockOSThread()
		if made = unix.Unshare(unix.CLONE_NEWNET); made != nil {
			return
		}
		if HasIPv6(t.Context()) {
			t.Error("there is IPv6 without an address")
		}
		if err := addAddress(); err != nil {
			t.Error(err)
			return
		}
		if HasIPv6(t.Context()) {
			t.Error("there is IPv6 without a route")
		}
		if err := addRoute(); err != nil {
			t.Error(err)
			return
		}
		if !HasIPv6(t.Context()) {
			t.Error("there is no IPv6 with a route")
		}
	}()
	<-done
	if made != nil {
		t.Skipf("a network namespace needs root: %v", made)
	}
}

// addAddress gives lo a global address; a kernel may have no other interface.
func addAddress() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("2001:db8:1::2/128")
	if err != nil {
		return err
	}
	addr.Flags = unix.IFA_F_NODAD // else it is of no use until a kernel thread says so
	return errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(lo, addr))
}

func addRoute() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	internet, err := netlink.ParseIPNet("2000::/3")
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: internet})
}
