//go:build linux

package sftp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Serve answers a client's requests until there are no more. The error is one of
// the streams or of a client that does not speak the protocol.
func Serve(r io.Reader, w io.Writer) error {
	s := &server{
		in:      bufio.NewReaderSize(r, maxPacket+4),
		out:     bufio.NewWriterSize(w, maxPacket),
		handles: map[uint32]*handle{},
	}
	defer s.closeAll()
	for {
		packet, err := s.next()
		if err == io.EOF {
			return s.out.Flush()
		}
		if err != nil {
			return err
		}
		if err := s.answer(packet); err != nil {
			return err
		}
	}
}

type server struct {
	in    *bufio.Reader
	out   *bufio.Writer
	reply encoder
	// replied says that the request that is being answered has its answer.
	replied bool

	handles map[uint32]*handle
	last    uint32 // handle
	names   accounts
}

// next reads a packet, which is good until the next call. io.EOF, bare, is the end
// between two.
func (s *server) next() ([]byte, error) {
	if !s.ready() {
		// The client may wait for what it has asked before it goes on.
		if err := s.out.Flush(); err != nil {
			return nil, err
		}
	}
	head, err := s.in.Peek(4)
	if err != nil {
		if len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n < 5 || n > maxPacket {
		return nil, fmt.Errorf("the client sent an SFTP packet of %d bytes", n)
	}
	packet, err := s.in.Peek(4 + int(n))
	if err != nil {
		return nil, fmt.Errorf("read an SFTP packet: %w", io.ErrUnexpectedEOF)
	}
	// Discarding keeps the bytes where they are until the next read.
	_, _ = s.in.Discard(len(packet))
	return packet[4:], nil
}

// ready says whether a whole packet has been read.
func (s *server) ready() bool {
	if s.in.Buffered() < 4 {
		return false
	}
	head, _ := s.in.Peek(4)
	return uint64(s.in.Buffered()) >= 4+uint64(binary.BigEndian.Uint32(head))
}

// answer answers one request.
func (s *server) answer(packet []byte) error {
	d := &decoder{b: packet}
	kind := d.uint8()
	if kind == typeInit {
		return s.hello()
	}
	id := d.uint32()
	s.replied = false
	err := s.do(kind, id, d)
	if s.replied && err == nil {
		return s.send()
	}
	s.status(id, err)
	return s.send()
}

func (s *server) send() error {
	_, err := s.out.Write(s.reply.packet())
	return err
}

// begin starts the answer to a request that is not a status.
func (s *server) begin(kind uint8, id uint32) *encoder {
	s.replied = true
	s.reply.begin(kind, id)
	return &s.reply
}

// do does what a request asks for. Without an answer of its own it has a status,
// that of the error.
func (s *server) do(kind uint8, id uint32, d *decoder) error {
	switch kind {
	case typeOpen:
		return s.open(id, d)
	case typeOpendir:
		return s.opendir(id, d)
	case typeClose:
		return s.close(d)
	case typeRead:
		return s.read(id, d)
	case typeWrite:
		return s.write(d)
	case typeReaddir:
		return s.readdir(id, d)
	case typeStat, typeLstat, typeFstat:
		return s.stat(kind, id, d)
	case typeSetstat, typeFsetstat:
		return s.setstat(kind, d)
	case typeRealpath, typeReadlink:
		return s.oneName(kind, id, d)
	case typeRemove, typeRmdir, typeMkdir, typeRename, typeSymlink:
		return s.change(kind, d)
	case typeExtended:
		return s.extended(id, d)
	}
	return unix.ENOSYS
}

// hello answers the first packet, section 4.
func (s *server) hello() error {
	s.reply.begin(typeVersion, protocolVersion)
	for _, e := range extensions {
		s.reply.string(e.name)
		s.reply.string(e.version)
	}
	return s.send()
}

// The codes of a status, section 7.
const (
	statusOK = iota
	statusEOF
	statusNoSuchFile
	statusPermissionDenied
	statusFailure
	statusBadMessage
	statusNoConnection
	statusConnectionLost
	statusUnsupported
)

// status answers with a code and the error's words.
func (s *server) status(id uint32, err error) {
	code, text := uint32(statusOK), "Success"
	if err != nil {
		code, text = codeOf(err), err.Error()
	}
	s.reply.begin(typeStatus, id)
	s.reply.uint32(code)
	s.reply.string(text)
	s.reply.string("en")
}

// codeOf is the code that OpenSSH's server gives for an error.
func codeOf(err error) uint32 {
	var errno unix.Errno
	switch {
	case errors.Is(err, io.EOF):
		return statusEOF
	case errors.Is(err, errMalformed):
		return statusBadMessage
	case !errors.As(err, &errno):
		return statusFailure
	}
	switch errno {
	case unix.ENOENT, unix.ENOTDIR, unix.EBADF, unix.ELOOP:
		return statusNoSuchFile
	case unix.EPERM, unix.EACCES, unix.EFAULT:
		return statusPermissionDenied
	case unix.ENAMETOOLONG, unix.EINVAL:
		return statusBadMessage
	case unix.ENOSYS, unix.EOPNOTSUPP:
		return statusUnsupported
	}
	return statusFailure
}
