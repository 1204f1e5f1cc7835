//go:build linux

// Command attack is a guest that owns its kernel and wants out: it speaks 9P
// itself, on vsock, to the server of a shared directory, and tries to reach
// what is outside, to exhaust the server, and to have it take nonsense for
// messages.
//
//	attack [-volume ID] [-secret TEXT] [-read-only]
//
// The directory holds, beside what attack makes itself:
//
//	canary  a file with "inside"
//	rel     a symlink to ../outside
//	abs     the same by its absolute path
//	fifo    a FIFO
//
// and outside is a directory with a file canary, which holds the secret. Every
// attempt must be refused, no answer may hold the secret, and the server must
// serve others as before. What is outside is for the host to look at. On a
// volume for reading it tries all that writes, and nothing else.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/vsock"

	"bake/internal/wire"
)

func main() {
	var a attacker
	flag.StringVar(&a.volume, "volume", "0", "the volume's `ID`")
	flag.StringVar(&a.secret, "secret", "", "the `text` in the file outside")
	readOnly := flag.Bool("read-only", false, "the volume is for reading")
	flag.Parse()
	if err := a.main(*readOnly); err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
}

// An attacker counts what it tries.
type attacker struct {
	volume, secret string
	refused        int
	failures       int
	mu             sync.Mutex // for what connections at once count
}

// patience bounds every wait for the server.
const patience = 2 * time.Minute

// A part is some attempts of one sort.
type part struct {
	name string
	run  func() error
}

func (a *attacker) main(readOnly bool) error {
	parts := []part{
		{"volumes", a.volumes},
		{"versions", a.versions},
		{"names", a.names},
		{"links", a.links},
		{"special files", a.special},
		{"races", a.races},
		{"sizes", a.sizes},
		{"fids", a.fids},
		{"many fids", a.manyFIDs},
		{"many connections", a.manyConnections},
		{"noise", a.noise},
	}
	if readOnly {
		parts = []part{{"writes", a.writes}}
	}
	for _, part := range parts {
		before := a.refused
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		if err := a.alive(); err != nil {
			return fmt.Errorf("after %s the server does not serve: %w", part.name, err)
		}
		fmt.Printf("%s: %d refused\n", part.name, a.refused-before)
	}
	if a.failures > 0 {
		return fmt.Errorf("%d attempts were not refused", a.failures)
	}
	fmt.Println("all is refused")
	return nil
}

// broken says what the server let through.
func (a *attacker) broken(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures++
	fmt.Printf("NOT REFUSED: "+format+"\n", args...)
}

// alive reads the file inside, on a connection of its own.
func (a *attacker) alive() error {
	c, err := a.attach()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.walk(rootFID, 1, "canary"); err != nil {
		return err
	}
	if _, err := c.do(tLopen, uint32(1), uint32(0)); err != nil {
		return err
	}
	data, err := c.do(tRead, uint32(1), uint64(0), uint32(100))
	if err != nil {
		return err
	}
	if !bytes.Contains(data, []byte("inside")) {
		return fmt.Errorf("the file inside holds %q", data)
	}
	return nil
}

// The messages of 9P2000.L, as in the kernel's include/net/9p/9p.h.
const (
	tLerror      = 6
	tStatfs      = 8
	tLopen       = 12
	tLcreate     = 14
	tSymlink     = 16
	tMknod       = 18
	tRename      = 20
	tReadlink    = 22
	tGetattr     = 24
	tSetattr     = 26
	tXattrwalk   = 30
	tXattrcreate = 32
	tReaddir     = 40
	tFsync       = 50
	tLock        = 52
	tGetlock     = 54
	tLink        = 70
	tMkdir       = 72
	tRenameat    = 74
	tUnlinkat    = 76
	tVersion     = 100
	tAuth        = 102
	tAttach      = 104
	tFlush       = 108
	tWalk        = 110
	tRead        = 116
	tWrite       = 118
	tClunk       = 120
	tRemove      = 122

	noFID   = 0xffffffff
	rootFID = uint32(0)
	maxSize = 128 << 10
)

// A conn is a connection to the server.
type conn struct {
	net.Conn
	a   *attacker
	tag uint16
}

// A refusal is an error that the server answers with.
type refusal uint32

func (r refusal) Error() string { return fmt.Sprintf("errno %d", uint32(r)) }

// errClosed is what a server does that wants to hear no more.
var errClosed = errors.New("the server has closed the connection")

// dial connects and says for which volume; refused is the answer.
func (a *attacker) dial(id []byte) (c *conn, refused string, err error) {
	v, err := vsock.Dial(wire.HostCID, wire.PortFiles, nil)
	if err != nil {
		return nil, "", err
	}
	c = &conn{Conn: v, a: a}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, "", err
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(id))), id...)); err != nil {
		return c, "", errClosed
	}
	answer, err := wire.ReadFrame(c, 1<<16)
	if err != nil {
		return c, "", closedBy(err)
	}
	return c, string(answer), nil
}

func closedBy(err error) error {
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	return errClosed
}

// errRefused is what a volume says that has enough connections.
var errRefused = errors.New("refused")

// attach makes a connection whose rootFID is the root. The server may not yet
// have seen the end of the last one and refuse one more.
func (a *attacker) attach() (*conn, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		c, err := a.attachOnce()
		if !errors.Is(err, errRefused) || time.Now().After(deadline) {
			return c, err
		}
	}
}

func (a *attacker) attachOnce() (*conn, error) {
	c, refused, err := a.dial([]byte(a.volume))
	if err != nil {
		return nil, fmt.Errorf("connect for volume %s: %w", a.volume, err)
	}
	if refused != "" {
		c.Close()
		return nil, fmt.Errorf("connect for volume %s: %w: %s", a.volume, errRefused, refused)
	}
	if _, err := c.do(tVersion, uint32(maxSize), "9P2000.L"); err != nil {
		return nil, fmt.Errorf("version: %w", err)
	}
	if _, err := c.do(tAttach, rootFID, uint32(noFID), "root", "", uint32(0)); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	return c, nil
}

// encode writes fields as 9P has them: little-endian numbers, strings with
// their length before them. []byte is written as it is.
func encode(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case uint8:
			b = append(b, f)
		case uint16:
			b = binary.LittleEndian.AppendUint16(b, f)
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, f)
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, f)
		case string:
			b = append(binary.LittleEndian.AppendUint16(b, uint16(len(f))), f...)
		case []byte:
			b = append(b, f...)
		default:
			panic(fmt.Sprintf("9P has no %T", f))
		}
	}
	return b
}

func message(kind uint8, tag uint16, body []byte) []byte {
	return encode(uint32(7+len(body)), kind, tag, body)
}

// do sends a message and returns the body of the answer, or a refusal.
func (c *conn) do(kind uint8, fields ...any) ([]byte, error) {
	c.tag = (c.tag + 1) & 0x7fff
	tag := c.tag
	if kind == tVersion {
		tag = 0xffff
	}
	return c.raw(message(kind, tag, encode(fields...)))
}

// raw sends bytes and reads one message.
func (c *conn) raw(b []byte) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.Write(b); err != nil {
		return nil, closedBy(err)
	}
	var head [7]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, closedBy(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size < 7 || size > 1<<20 {
		return nil, fmt.Errorf("the server answers with a message of %d bytes", size)
	}
	body := make([]byte, size-7)
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, closedBy(err)
	}
	if c.a.secret != "" && bytes.Contains(body, []byte(c.a.secret)) {
		c.a.broken("an answer to a message of type %d holds the secret", b[4])
	}
	if head[4] == tLerror+1 && len(body) >= 4 {
		return nil, refusal(binary.LittleEndian.Uint32(body))
	}
	return body, nil
}

// refuses has the server refuse a message, by an error or by closing.
func (c *conn) refuses(what string, kind uint8, fields ...any) {
	c.refusesRaw(what, func() error { _, err := c.do(kind, fields...); return err })
}

// refusesAndLives is refuses, and calls a server again that has closed.
func (c *conn) refusesAndLives(what string, kind uint8, fields ...any) (*conn, error) {
	c.refuses(what, kind, fields...)
	if _, err := c.do(tGetattr, rootFID, uint64(0x7ff)); err == nil {
		return c, nil
	}
	c.Close()
	return c.a.attach()
}

func (c *conn) refusesRaw(what string, do func() error) {
	err := do()
	var r refusal
	switch {
	case err == nil:
		c.a.broken("%s", what)
	case errors.As(err, &r), errors.Is(err, errClosed):
		c.a.addRefused(1)
	default:
		c.a.broken("%s: %v", what, err)
	}
}

// walk makes fid to what is below another, one name at a time or at once.
func (c *conn) walk(from, to uint32, names ...string) error {
	fields := []any{from, to, uint16(len(names))}
	for _, n := range names {
		fields = append(fields, n)
	}
	body, err := c.do(tWalk, fields...)
	if err != nil {
		return err
	}
	if len(body) < 2 || int(binary.LittleEndian.Uint16(body)) != len(names) {
		return refusal(2) // a walk that stops on its way makes no fid
	}
	return nil
}
