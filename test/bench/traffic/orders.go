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
	TCP    = "tcp" // to the Address of an Order
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

	OrderFlood   = "flood"   // Flood to Address
	OrderCollect = "collect" // Collect from Address
	OrderResolve = "resolve" // Resolve at Address
	OrderRun     = "run"     // Command, to its end
	OrderStart   = "start"   // Command, in the background
)

// An Order tells a guest what to do. Orders and results are JSON values that
// follow each other in one stream.
type Order struct {
	Op        string
	Transport string // VSock or Slirp
	TCPPort   int    // where the host's Serve listens on 127.0.0.1
	Count     int64  // bytes, rounds or connections

	Address string        // host:port of the other end
	Size    int           // of a datagram, in bytes
	Length  time.Duration // of a flood
	Name    string        // to resolve
	Command []string
}

// A Result is what became of an Order.
type Result struct {
	Error  string          // why it could not be done
	Took   time.Duration   // of all but pingpong
	Times  []time.Duration // of pingpong and resolve
	Flow   Flow            // of flood and collect
	Output string          // of run
	Failed int             // streams of crowd
	Reason string          // why the first of these failed
}
