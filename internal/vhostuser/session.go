//go:build linux

package vhostuser

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Virtio features (virtio 1.2, section 6) and the one bit that vhost-user adds.
const (
	featureIndirect  = 1 << 28
	featureEventIdx  = 1 << 29
	featureProtocol  = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES
	featureVersion1  = 1 << 32
	featuresOffered  = featureIndirect | featureEventIdx | featureProtocol | featureVersion1
	protocolMQ       = 1 << 0
	protocolReplyAck = 1 << 3
	protocolConfig   = 1 << 9
	// QEMU's vhost-user-vsock reads the guest's CID with GET_CONFIG and does
	// not start without the feature.
	protocolOffered = protocolMQ | protocolReplyAck | protocolConfig
)

// A model is what one kind of device differs in from another.
type model struct {
	queues []direction
	// config is the configuration space. If it is empty, QEMU has it.
	config []byte
}

// protocol is the protocol features of the device. QEMU complains about a
// configuration space where it has that itself.
func (m *model) protocol() uint64 {
	if len(m.config) == 0 {
		return protocolOffered &^ protocolConfig
	}
	return protocolOffered
}

// The queues of the vsock device (virtio 1.2, 5.10.2). QEMU keeps the event
// queue.
const (
	queueRX  = 0 // to the guest
	queueTX  = 1 // from the guest
	numRings = 2
)

// vsockModel is the vsock device, whose configuration space is guest_cid, u64
// (virtio 1.2, 5.10.4).
func vsockModel(cid uint64) model {
	return model{
		queues: []direction{queueRX: toGuest, queueTX: fromGuest},
		config: binary.LittleEndian.AppendUint64(nil, cid),
	}
}

// Payload of the messages that carry a descriptor: the ring, and a flag for
// "no descriptor comes along".
const (
	vringIndexMask = 0xff
	vringNoFD      = 1 << 8
)

// A watcher runs the rings.
type watcher interface {
	// watch says which descriptor notifies of new buffers in a ring.
	watch(ring, fd int) error
	unwatch(fd int)
	// stopping announces that rings are about to stop: the last time to take
	// what the guest has sent.
	stopping()
	// broken says that the guest broke its rings, which do not run any more.
	broken(err error)
}

// A session is what one front end configured. It runs no ring by itself.
type session struct {
	model    model
	watcher  watcher
	features uint64
	protocol uint64
	mem      *memory
	rings    []vring

	// stopped counts the stops of rings: the guest forgot its connections.
	stopped int
}

// A vring is a ring as configured. It runs when the front end started it by
// sending a kick descriptor, enabled it, and its memory is there.
type vring struct {
	dir             direction
	layout          ringLayout
	base            uint16
	kick, call, err int // descriptors, or -1
	started         bool
	enabled         bool
	queue           *virtqueue // when it runs
	fault           error      // why it does not run although it could, until it is stopped
}

func newSession(m model, w watcher) *session {
	s := &session{model: m, watcher: w, rings: make([]vring, len(m.queues))}
	for i := range s.rings {
		s.rings[i] = vring{dir: m.queues[i], kick: -1, call: -1, err: -1}
	}
	return s
}

// handle does what a message asks and returns the answer to send, if any. It
// takes over the message's descriptors. An error ends the session; the answer
// is sent before.
func (s *session) handle(m *message) (answer []byte, err error) {
	defer m.close()
	payload, err := s.dispatch(m)
	if err != nil {
		err = fmt.Errorf("front end message %d: %w", m.request, err)
	}
	if payload != nil {
		return m.reply(payload), err
	}
	// REPLY_ACK: a request without an answer of its own may ask for one.
	if m.flags&messageNeedReply != 0 && s.protocol&protocolReplyAck != 0 {
		var failed uint64
		if err != nil {
			failed = 1
		}
		return m.reply(binary.LittleEndian.AppendUint64(nil, failed)), err
	}
	return nil, err
}

func (s *session) dispatch(m *message) ([]byte, error) {
	u64 := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	switch m.request {
	case reqGetFeatures:
		return u64(featuresOffered), nil
	case reqSetFeatures:
		return nil, accept(m, featuresOffered, &s.features)
	case reqGetProtocolFeatures:
		return u64(s.model.protocol()), nil
	case reqSetProtocolFeatures:
		return nil, accept(m, s.model.protocol(), &s.protocol)
	case reqGetQueueNum:
		return u64(uint64(len(s.rings))), nil
	case reqSetOwner:
		return nil, nil
	case reqResetOwner:
		// Deprecated, and to be ignored by a back end that does not stop
		// its rings on it.
		return nil, nil
	case reqGetConfig:
		return s.config(m)
	case reqSetMemTable:
		return nil, s.setMemory(m)
	case reqSetVringNum, reqSetVringBase, reqGetVringBase, reqSetVringEnable:
		return s.setVringState(m)
	case reqSetVringAddr:
		index, layout, err := m.vringAddr()
		if err != nil {
			return nil, err
		}
		r, err := s.ring(index)
		if err != nil {
			return nil, err
		}
		layout.size = r.layout.size
		r.layout = layout
		s.restart(r)
		return nil, nil
	case reqSetVringKick, reqSetVringCall, reqSetVringErr:
		return nil, s.setVringFD(m)
	}
	if m.flags&messageNeedReply != 0 && s.protocol&protocolReplyAck != 0 {
		return u64(1), nil // not done, and the front end will know
	}
	return nil, fmt.Errorf("not supported")
}

func accept(m *message, offered uint64, to *uint64) error {
	v, err := m.u64()
	if err != nil {
		return err
	}
	if v&^offered != 0 {
		return fmt.Errorf("features %#x were not offered", v&^offered)
	}
	*to = v
	return nil
}

// config answers GET_CONFIG with a part of the configuration space.
func (s *session) config(m *message) ([]byte, error) {
	const prefix = 12 // offset, size, flags; u32 each
	if len(m.payload) < prefix {
		return nil, m.sizeError(prefix)
	}
	le := binary.LittleEndian
	offset, size := le.Uint32(m.payload[0:]), le.Uint32(m.payload[4:])
	space := s.model.config
	if uint64(offset)+uint64(size) > uint64(len(space)) {
		return []byte{}, nil // no such part: an answer without payload says so
	}
	answer := append([]byte(nil), m.payload[:prefix]...)
	return append(answer, space[offset:offset+size]...), nil
}

func (s *session) setMemory(m *message) error {
	specs, err := m.memTable()
	if err != nil {
		return err
	}
	mem, err := mapMemory(specs, m.fds)
	if err != nil {
		return err
	}
	old := s.mem
	s.mem = mem
	for i := range s.rings {
		s.restart(&s.rings[i])
	}
	if old != nil {
		old.close()
	}
	return nil
}

func (s *session) ring(index uint32) (*vring, error) {
	if uint64(index) >= uint64(len(s.rings)) {
		return nil, fmt.Errorf("ring %d of %d", index, len(s.rings))
	}
	return &s.rings[index], nil
}

func (s *session) setVringState(m *message) ([]byte, error) {
	index, num, err := m.vringState()
	if err != nil {
		return nil, err
	}
	r, err := s.ring(index)
	if err != nil {
		return nil, err
	}
	switch m.request {
	case reqSetVringNum:
		r.layout.size = num
	case reqSetVringBase:
		r.base = uint16(num)
	case reqSetVringEnable:
		r.enabled = num != 0
		s.restart(r)
	case reqGetVringBase:
		s.stop(r)
		le := binary.LittleEndian
		return le.AppendUint32(le.AppendUint32(nil, index), uint32(r.base)), nil
	}
	return nil, nil
}

func (s *session) setVringFD(m *message) error {
	v, err := m.u64()
	if err != nil {
		return err
	}
	index := uint32(v & vringIndexMask)
	r, err := s.ring(index)
	if err != nil {
		return err
	}
	fd := -1
	if v&vringNoFD == 0 {
		if fd = m.takeFD(); fd < 0 {
			return fmt.Errorf("no descriptor came along")
		}
		// Nothing here may ever wait for the other end.
		unix.SetNonblock(fd, true)
	}
	switch m.request {
	case reqSetVringCall:
		replace(&r.call, fd)
		if r.queue != nil {
			// The driver may wait for what went to the old one.
			r.queue.always = true
		}
	case reqSetVringErr:
		replace(&r.err, fd)
	case reqSetVringKick:
		s.unwatch(r)
		if fd < 0 {
			return fmt.Errorf("a ring without a kick descriptor (polling) is not supported")
		}
		if err := s.watcher.watch(int(index), fd); err != nil {
			unix.Close(fd)
			return fmt.Errorf("wait for kicks: %w", err)
		}
		r.kick = fd
		r.started = true
		if s.features&featureProtocol == 0 {
			r.enabled = true // there is no SET_VRING_ENABLE then
		}
		s.restart(r)
	}
	return nil
}

func replace(old *int, fd int) {
	if *old >= 0 {
		unix.Close(*old)
	}
	*old = fd
}

// unwatch closes a ring's kick descriptor. The front end has it open too, so
// that closing alone would leave it in the epoll set.
func (s *session) unwatch(r *vring) {
	if r.kick >= 0 {
		s.watcher.unwatch(r.kick)
	}
	replace(&r.kick, -1)
}

// restart makes the virtqueue of a ring anew, from where it is, after something
// that it depends on has changed.
func (s *session) restart(r *vring) {
	r.halt()
	if !r.started || !r.enabled || s.mem == nil || r.layout.desc == 0 || r.fault != nil {
		return
	}
	q, err := newVirtqueue(s.mem, r.layout, r.base, r.dir, s.features&featureEventIdx != 0)
	if err != nil {
		// The addresses are the guest's choice: its device stops, not us.
		s.fail(err)
		return
	}
	r.queue = q
}

// fail stops the rings, one of which the guest broke, until the guest's driver
// resets the device.
func (s *session) fail(err error) {
	for i := range s.rings {
		r := &s.rings[i]
		r.halt()
		r.fault = err
		signal(r.err)
	}
	s.watcher.broken(err)
}

// halt ends the processing of a ring and remembers how far it came.
func (r *vring) halt() {
	if r.queue != nil {
		r.base = r.queue.next
		r.queue = nil
	}
}

// stop ends a ring: GET_VRING_BASE.
func (s *session) stop(r *vring) {
	s.watcher.stopping()
	r.halt()
	s.unwatch(r)
	r.started, r.fault = false, nil
	s.stopped++
}

// close releases every descriptor and mapping.
func (s *session) close() {
	for i := range s.rings {
		r := &s.rings[i]
		r.queue = nil
		s.unwatch(r)
		replace(&r.call, -1)
		replace(&r.err, -1)
	}
	if s.mem != nil {
		s.mem.close()
		s.mem = nil
	}
}

// signal adds one to an eventfd, if there is one. A full counter is a signal
// that the other end has not taken yet.
func signal(fd int) {
	if fd >= 0 {
		one := [8]byte{0: 1}
		unix.Write(fd, one[:])
	}
}

// running reports whether a ring is started.
func (s *session) running() bool {
	for i := range s.rings {
		if s.rings[i].started {
			return true
		}
	}
	return false
}
