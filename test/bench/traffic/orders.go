package traffic

import "time"

// The ports of a measured guest, of vsock and of TCP alike.
const (
	PortOrders = 20000 // host, vsock only: the guest dials it and takes orders
	PortGuest  = 20001 // guest: Serve
	PortHost   = 20002 // host, vsock only: Serve
)

// The guest's side of the transports besides vsock.
const (
	SerialPorts  = "/dev/vport*p1" // the first port of virtio-serial; * is the device's number
	NetInterface = "eth0"
	NetAddress   = "10.0.2.15/24" // what QEMU's user networking gives out
	NetHost      = "10.0.2.2"     // and where the host's 127.0.0.1 is in it
)

// The transports.
const (
	VSock  = "vsock"
	Serial = "serial"
	Slirp  = "slirp"
)

// The operations of an [Order]: the functions of this package, with the guest
// as client.
const (
	OrderUpload   = "upload"
	OrderDownload = "download"
	OrderPingPong = "pingpong"
	OrderConnect  = "connect"
	OrderCrowd    = "crowd"
	OrderPowerOff = "poweroff"
)

// An Order tells a guest what to do. Orders and results are JSON values that
// follow each other in one stream.
type Order struct {
	Op        string
	Transport string // VSock or Slirp
	TCPPort   int    // where the host's Serve listens on 127.0.0.1
	Count     int64  // bytes, rounds or connections
}

// A Result is what became of an Order.
type Result struct {
	Error  string          // why it could not be done
	Took   time.Duration   // of all but pingpong
	Times  []time.Duration // of pingpong
	Failed int             // streams of crowd
	Reason string          // why the first of these failed
}
