//go:build linux

package vhostuser

import "encoding/binary"

// headerSize is the size of struct virtio_vsock_hdr (virtio 1.2, 5.10.6).
const headerSize = 44

// hostCID is the address of the host (virtio 1.2, 5.10.4).
const hostCID = 2

// typeStream is the one socket type that the device offers; SEQPACKET (2)
// needs a feature bit that it does not.
const typeStream = 1

// An op is the operation of a packet (virtio 1.2, 5.10.6).
type op uint16

const (
	opRequest       op = 1
	opResponse      op = 2
	opReset         op = 3
	opShutdown      op = 4
	opData          op = 5 // VIRTIO_VSOCK_OP_RW
	opCreditUpdate  op = 6
	opCreditRequest op = 7
)

// Flags of opShutdown (virtio 1.2, 5.10.6.6.1): the sender of the packet will
// not receive, will not send.
const (
	shutdownReceive = 1 << iota
	shutdownSend
	shutdownBoth = shutdownReceive | shutdownSend
)

// A header is struct virtio_vsock_hdr, in host byte order.
type header struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	length           uint32 // bytes of payload
	socketType       uint16
	op               op
	flags            uint32
	bufAlloc, fwdCnt uint32 // the sender's receive buffer, and bytes it took out of it
}

func parseHeader(b *[headerSize]byte) header {
	le := binary.LittleEndian
	return header{
		srcCID:     le.Uint64(b[0:]),
		dstCID:     le.Uint64(b[8:]),
		srcPort:    le.Uint32(b[16:]),
		dstPort:    le.Uint32(b[20:]),
		length:     le.Uint32(b[24:]),
		socketType: le.Uint16(b[28:]),
		op:         op(le.Uint16(b[30:])),
		flags:      le.Uint32(b[32:]),
		bufAlloc:   le.Uint32(b[36:]),
		fwdCnt:     le.Uint32(b[40:]),
	}
}

func (h *header) marshal() [headerSize]byte {
	var b [headerSize]byte
	le := binary.LittleEndian
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.length)
	le.PutUint16(b[28:], h.socketType)
	le.PutUint16(b[30:], uint16(h.op))
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.bufAlloc)
	le.PutUint32(b[40:], h.fwdCnt)
	return b
}
