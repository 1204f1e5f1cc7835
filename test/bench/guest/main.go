//go:build linux

// Command guest is what runs in the guests that are measured. It serves traffic
// on vsock and TCP and does what the host orders.
//
// As PID 1 it sets up the network, serves a virtio-serial port too, and takes
// orders over vsock. As "guest container", in the container of an app, it takes
// them on its standard input. "guest files" measures a file system.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mdlayher/vsock"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"bake/internal/wire"
	"bake/test/bench/traffic"
)

func main() {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case "container":
			err = contained()
		case "files":
			err = files(os.Args[2:])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			os.Exit(1)
		}
		return
	}
	if err := live(); err != nil {
		fmt.Println("guest:", err)
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func live() error {
	if err := unix.Mount("dev", "/dev", "devtmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	if err := setUpNetwork(); err != nil {
		return err
	}
	serial, err := openSerial()
	if err != nil {
		return err
	}
	go serveSerial(serial)
	if err := listen(); err != nil {
		return err
	}
	orders, err := vsock.Dial(wire.HostCID, traffic.PortOrders, nil)
	if err != nil {
		return err
	}
	return obey(orders)
}

// contained ends with the orders: who gives them is the app.
func contained() error {
	if err := vsockNode(); err != nil {
		return err
	}
	if err := listen(); err != nil {
		return err
	}
	return obey(struct {
		io.Reader
		io.Writer
	}{os.Stdin, os.Stdout})
}

// vsockNode makes /dev/vsock, which a container has not: programs ask it for
// the guest's CID.
func vsockNode() error {
	text, err := os.ReadFile("/sys/class/misc/vsock/dev")
	if err != nil {
		return fmt.Errorf("find the vsock device: %w", err)
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
		return fmt.Errorf("read the number of the vsock device: %w", err)
	}
	return unix.Mknod("/dev/vsock", unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor)))
}

// listen serves traffic on vsock and on TCP.
func listen() error {
	vl, err := vsock.Listen(traffic.PortGuest, nil)
	if err != nil {
		return err
	}
	go serve(vl)
	tl, err := net.Listen("tcp", fmt.Sprintf(":%d", traffic.PortGuest))
	if err != nil {
		return err
	}
	go serve(tl)
	return nil
}

func setUpNetwork() error {
	link, err := netlink.LinkByName(traffic.NetInterface)
	if err != nil {
		return fmt.Errorf("find %s: %w", traffic.NetInterface, err)
	}
	addr, err := netlink.ParseAddr(traffic.NetAddress)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
}

// openSerial opens the port, which the device announces some time after the
// driver is up.
func openSerial() (*os.File, error) {
	const tries = 500
	for range tries {
		ports, err := filepath.Glob(traffic.SerialPorts)
		if err != nil {
			return nil, err
		}
		if len(ports) > 0 {
			return os.OpenFile(ports[0], os.O_RDWR, 0)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, fmt.Errorf("there is no serial port %s", traffic.SerialPorts)
}

// serveSerial serves the port for ever: it reads as ended while nobody has
// opened its other end.
func serveSerial(port *os.File) {
	for {
		report(traffic.Serve(port))
		time.Sleep(10 * time.Millisecond)
	}
}

func serve(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			report(err)
			return
		}
		go func() {
			defer conn.Close()
			report(traffic.Serve(conn))
		}()
	}
}

// report says what went wrong. A stream that the host broke off is in the
// host's figures.
func report(err error) {
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
}

func obey(rw io.ReadWriter) error {
	in, out := json.NewDecoder(rw), json.NewEncoder(rw)
	for {
		var o traffic.Order
		if err := in.Decode(&o); err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		if o.Op == traffic.OrderPowerOff {
			return nil
		}
		r, err := do(o)
		if err != nil {
			r.Error = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return fmt.Errorf("send a result: %w", err)
		}
	}
}

func do(o traffic.Order) (r traffic.Result, err error) {
	switch o.Op {
	case traffic.OrderFlood:
		r.Flow, err = flood(o)
		return r, err
	case traffic.OrderCollect:
		r.Flow, err = collect(o)
		return r, err
	case traffic.OrderResolve:
		r.Times, err = traffic.Resolve(o.Address, o.Name, int(o.Count))
		return r, err
	case traffic.OrderRun:
		out, err := exec.Command(o.Command[0], o.Command[1:]...).CombinedOutput()
		if err != nil {
			return r, fmt.Errorf("%v: %w\n%s", o.Command, err, out)
		}
		r.Output = string(out)
		return r, nil
	case traffic.OrderStart:
		cmd := exec.Command(o.Command[0], o.Command[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		return r, cmd.Start() // it ends with the container
	}
	return overStreams(o)
}

func flood(o traffic.Order) (f traffic.Flow, err error) {
	conn, err := net.Dial("udp", o.Address)
	if err != nil {
		return f, err
	}
	defer conn.Close()
	return traffic.Flood(conn, o.Size, o.Length)
}

func collect(o traffic.Order) (f traffic.Flow, err error) {
	conn, err := net.Dial("udp", o.Address)
	if err != nil {
		return f, err
	}
	defer conn.Close()
	if err := traffic.Ask(conn, o.Size, o.Length); err != nil {
		return f, err
	}
	return traffic.Collect(conn)
}

// overStreams does what is done on one stream or many.
func overStreams(o traffic.Order) (r traffic.Result, err error) {
	dial, err := dialer(o)
	if err != nil {
		return r, err
	}
	switch o.Op {
	case traffic.OrderConnect:
		r.Took, err = traffic.Connect(dial, int(o.Count))
		return r, err
	case traffic.OrderCrowd:
		var failed []error
		if r.Took, failed = traffic.Crowd(dial, int(o.Count)); len(failed) > 0 {
			r.Failed, r.Reason = len(failed), failed[0].Error()
		}
		return r, nil
	}
	rw, err := dial()
	if err != nil {
		return r, err
	}
	defer rw.Close()
	switch o.Op {
	case traffic.OrderUpload:
		r.Took, err = traffic.Upload(rw, o.Count)
	case traffic.OrderDownload:
		r.Took, err = traffic.Download(rw, o.Count)
	case traffic.OrderPingPong:
		r.Times, err = traffic.PingPong(rw, int(o.Count))
	default:
		err = fmt.Errorf("%q is no order", o.Op)
	}
	return r, err
}

// dialTime is what a connection of a thousand may take.
const dialTime = 30 * time.Second

func dialer(o traffic.Order) (traffic.Dial, error) {
	switch o.Transport {
	case traffic.VSock:
		return func() (io.ReadWriteCloser, error) {
			ctx, cancel := context.WithTimeout(context.Background(), dialTime)
			defer cancel()
			conn, err := vsock.DialContext(ctx, wire.HostCID, traffic.PortHost, nil)
			if err != nil {
				return nil, err
			}
			return conn, nil
		}, nil
	case traffic.Slirp:
		address := net.JoinHostPort(traffic.NetHost, fmt.Sprint(o.TCPPort))
		return func() (io.ReadWriteCloser, error) { return net.DialTimeout("tcp", address, dialTime) }, nil
	case traffic.TCP:
		return func() (io.ReadWriteCloser, error) { return net.DialTimeout("tcp", o.Address, dialTime) }, nil
	}
	return nil, fmt.Errorf("the guest cannot dial over %q", o.Transport)
}
