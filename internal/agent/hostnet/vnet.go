//go:build linux

package hostnet

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A vnetHeader precedes each packet on the device (struct virtio_net_hdr,
// include/uapi/linux/virtio_net.h): what is left to do to the packet.
type vnetHeader struct {
	flags, gsoType                          byte
	headerLen, gsoSize, csumStart, csumOffs uint16
}

const vnetSize = 10

// put writes h in the machine's byte order, which is the device's.
func (h vnetHeader) put(b *[vnetSize]byte) {
	b[0], b[1] = h.flags, h.gsoType
	binary.NativeEndian.PutUint16(b[2:], h.headerLen)
	binary.NativeEndian.PutUint16(b[4:], h.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], h.csumStart)
	binary.NativeEndian.PutUint16(b[8:], h.csumOffs)
}

// udpSegment is what h says of a packet that is several UDP datagrams
// (UDP_SEGMENT of udp(7)): the payload of each but the last. It is 0 for a
// plain packet.
func udpSegment(b *[vnetSize]byte) int {
	if b[1]&^unix.VIRTIO_NET_HDR_GSO_ECN != unix.VIRTIO_NET_HDR_GSO_UDP_L4 {
		return 0
	}
	return int(binary.NativeEndian.Uint16(b[4:]))
}
