//go:build linux

package vhostuser

const (
	// bufAlloc is what a connection may hold for a host that does not read:
	// the receive buffer announced to the guest. Four times what other back
	// ends announce: the guest stops at the end of this window for as long as
	// a credit update takes, and with 64 KiB that is after every packet.
	bufAlloc = 256 << 10

	// minWindow is the credit below which nothing is sent to the guest. A slow
	// reader would otherwise get a packet for every few bytes that it takes
	// (the silly window of RFC 1122, 4.2.3.4).
	minWindow = 4 << 10
)

// credit is the flow control of one connection (virtio 1.2, 5.10.6.3). The
// counters wrap, as the ones in the packets do; only differences have meaning.
type credit struct {
	// Guest to host.
	received  uint32 // bytes taken from the guest
	forwarded uint32 // of those, the ones that the host's socket took
	announced uint32 // value of forwarded in the last packet to the guest

	// Host to guest.
	sent          uint32
	peerForwarded uint32 // the guest's counter, as it last told
	peerAlloc     uint32 // the guest's buffer
}

// learn takes the guest's counters from a packet; every packet has them.
func (c *credit) learn(h *header) {
	c.peerAlloc, c.peerForwarded = h.bufAlloc, h.fwdCnt
}

// stamp puts our counters into a packet to the guest.
func (c *credit) stamp(h *header) {
	h.bufAlloc, h.fwdCnt = bufAlloc, c.forwarded
	c.announced = c.forwarded
}

// window is how many bytes may be sent to the guest now; 0 when there is less
// room than is worth a packet.
func (c *credit) window() uint32 {
	inFlight := c.sent - c.peerForwarded
	// A guest may shrink its buffer under what is in flight, or lie.
	if inFlight >= c.peerAlloc {
		return 0
	}
	free := c.peerAlloc - inFlight
	if free < min(minWindow, c.peerAlloc) {
		return 0
	}
	return free
}

// receive accounts for n bytes of payload from the guest. It reports false
// when the guest sends more than the buffer that it was told of.
func (c *credit) receive(n uint32) bool {
	if n > bufAlloc-(c.received-c.forwarded) {
		return false
	}
	c.received += n
	return true
}

// forward accounts for n bytes that left for the host.
func (c *credit) forward(n int) { c.forwarded += uint32(n) }

// due reports whether the guest must be told of freed room by a packet of its
// own. The measure is half of the smaller buffer of the two: Linux caps its
// window at the size of its own buffer (virtio_transport_tx_buf_size in
// net/vmw_vsock/virtio_transport_common.c) and never asks for credit, so that
// half of ours could be more than it will ever send.
func (c *credit) due() bool {
	return c.forwarded-c.announced >= max(1, min(bufAlloc, c.peerAlloc)/2)
}
