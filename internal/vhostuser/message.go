//go:build linux

package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// A request is the number of a message of the front end (QEMU,
// docs/interop/vhost-user.rst, "Front-end message types").
type request uint32

const (
	reqGetFeatures         request = 1
	reqSetFeatures         request = 2
	reqSetOwner            request = 3
	reqResetOwner          request = 4
	reqSetMemTable         request = 5
	reqSetVringNum         request = 8
	reqSetVringAddr        request = 9
	reqSetVringBase        request = 10
	reqGetVringBase        request = 11
	reqSetVringKick        request = 12
	reqSetVringCall        request = 13
	reqSetVringErr         request = 14
	reqGetProtocolFeatures request = 15
	reqSetProtocolFeatures request = 16
	reqGetQueueNum         request = 17
	reqSetVringEnable      request = 18
	reqGetConfig           request = 24
)

// Flags of a message header.
const (
	messageVersion     = 1 // in the lowest two bits
	messageVersionMask = 3
	messageReply       = 1 << 2
	messageNeedReply   = 1 << 3
)

const (
	messageHeaderSize = 12  // request, flags, size of the payload; u32 each
	maxPayload        = 512 // the largest that is served is GET_CONFIG: 12 + 256 bytes
	maxMessageFDs     = maxRegions
)

// A message is what the front end sent. Whoever takes it owns the descriptors.
type message struct {
	request request
	flags   uint32
	payload []byte
	fds     []int
}

// takeFD removes the first descriptor from the message, or returns -1.
func (m *message) takeFD() int {
	if len(m.fds) == 0 {
		return -1
	}
	fd := m.fds[0]
	m.fds = m.fds[1:]
	return fd
}

func (m *message) close() {
	for _, fd := range m.fds {
		unix.Close(fd)
	}
	m.fds = nil
}

// reply builds the answer to a request.
func (m *message) reply(payload []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(m.request))
	b = le.AppendUint32(b, messageVersion|messageReply)
	b = le.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// A messageReader reads messages from the front end's socket without ever
// waiting for one that is incomplete.
type messageReader struct {
	fd   int
	have int
	buf  [messageHeaderSize + maxPayload]byte
	fds  []int
}

// next returns a complete message, or nil when there is none yet. It returns
// io.EOF when the front end hung up.
func (r *messageReader) next() (*message, error) {
	for {
		want := messageHeaderSize
		if r.have >= messageHeaderSize {
			size, err := payloadSize(r.buf[:messageHeaderSize])
			if err != nil {
				return nil, err
			}
			if want += size; r.have == want {
				return r.take(), nil
			}
		}
		// Never more than what is missing: descriptors come with the bytes
		// that they were sent with, and must not be taken for the next
		// message's.
		n, err := r.receive(r.buf[r.have:want])
		if errors.Is(err, unix.EAGAIN) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		r.have += n
	}
}

func payloadSize(head []byte) (int, error) {
	le := binary.LittleEndian
	if flags := le.Uint32(head[4:]); flags&messageVersionMask != messageVersion {
		return 0, fmt.Errorf("the front end speaks version %d of vhost-user, not %d", flags&messageVersionMask, messageVersion)
	}
	size := le.Uint32(head[8:])
	if size > maxPayload {
		return 0, fmt.Errorf("message %d of the front end has a payload of %d bytes; %d is the limit", le.Uint32(head[0:]), size, maxPayload)
	}
	return int(size), nil
}

// take turns the buffer's contents into a message and empties the buffer.
func (r *messageReader) take() *message {
	le := binary.LittleEndian
	m := &message{
		request: request(le.Uint32(r.buf[0:])),
		flags:   le.Uint32(r.buf[4:]),
		payload: append([]byte(nil), r.buf[messageHeaderSize:r.have]...),
		fds:     r.fds,
	}
	r.have, r.fds = 0, nil
	return m
}

// receive reads into p and keeps the descriptors that come along.
func (r *messageReader) receive(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxMessageFDs))
	var n, oobn, flags int
	var err error
	for {
		n, oobn, flags, _, err = unix.Recvmsg(r.fd, p, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.ECONNRESET {
		err = io.EOF // it left without reading an answer
	}
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, fmt.Errorf("control message of the front end: %w", err)
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			r.fds = append(r.fds, fds...)
		}
	}
	switch {
	case flags&unix.MSG_CTRUNC != 0 || len(r.fds) > maxMessageFDs:
		return 0, fmt.Errorf("the front end sent more than %d descriptors with one message", maxMessageFDs)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (r *messageReader) close() {
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
}

// u64 is the payload of most messages.
func (m *message) u64() (uint64, error) {
	if len(m.payload) != 8 {
		return 0, m.sizeError(8)
	}
	return binary.LittleEndian.Uint64(m.payload), nil
}

// vringState is "A vring state description": a ring's index and a number.
func (m *message) vringState() (index, num uint32, err error) {
	if len(m.payload) != 8 {
		return 0, 0, m.sizeError(8)
	}
	le := binary.LittleEndian
	return le.Uint32(m.payload[0:]), le.Uint32(m.payload[4:]), nil
}

// vringAddr is "A vring address description"; flags and the log address are
// for migration, which is not offered.
func (m *message) vringAddr() (index uint32, at ringLayout, err error) {
	if len(m.payload) != 40 {
		return 0, ringLayout{}, m.sizeError(40)
	}
	le := binary.LittleEndian
	return le.Uint32(m.payload[0:]), ringLayout{
		desc:  le.Uint64(m.payload[8:]),
		used:  le.Uint64(m.payload[16:]),
		avail: le.Uint64(m.payload[24:]),
	}, nil
}

// memTable is "Multiple Memory regions description".
func (m *message) memTable() ([]regionSpec, error) {
	const prefix, entry = 8, 32
	if len(m.payload) < prefix {
		return nil, m.sizeError(prefix)
	}
	le := binary.LittleEndian
	n := int(le.Uint32(m.payload[0:]))
	if n < 1 || n > maxRegions {
		return nil, fmt.Errorf("memory table with %d regions; 1 to %d are possible", n, maxRegions)
	}
	if len(m.payload) < prefix+n*entry {
		return nil, m.sizeError(prefix + n*entry)
	}
	if len(m.fds) != n {
		return nil, fmt.Errorf("memory table with %d regions and %d descriptors", n, len(m.fds))
	}
	var specs []regionSpec
	for i := range n {
		b := m.payload[prefix+i*entry:]
		specs = append(specs, regionSpec{
			guest:  le.Uint64(b[0:]),
			size:   le.Uint64(b[8:]),
			user:   le.Uint64(b[16:]),
			offset: le.Uint64(b[24:]),
		})
	}
	return specs, nil
}

func (m *message) sizeError(want int) error {
	return fmt.Errorf("payload of %d bytes, want %d", len(m.payload), want)
}
