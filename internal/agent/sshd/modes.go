//go:build linux

package sshd

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A mode is an opcode of RFC 4254, section 8 (and of RFC 8160 for IUTF8), with
// what it sets in struct termios.
const (
	modeEnd = 0
	// Opcodes from here on have no known argument; those before it have 4 bytes.
	modeUnknown = 160
)

// controlCharacters are indices of c_cc.
var controlCharacters = map[byte]int{
	1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2,
	8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT, 18: unix.VDISCARD,
}

var inputModes = map[byte]uint32{
	30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR, 35: unix.IGNCR, 36: unix.ICRNL,
	37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY, 40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
}

var localModes = map[byte]uint32{
	50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE, 55: unix.ECHOK, 56: unix.ECHONL,
	57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN, 60: unix.ECHOCTL, 61: unix.ECHOKE, 62: unix.PENDIN,
}

var outputModes = map[byte]uint32{
	70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
}

// Of the character size there is one opcode for each of the values that the
// mask CSIZE has; a client sends both, and only one is set.
var controlModes = map[byte]uint32{92: unix.PARENB, 93: unix.PARODD}

// disabled is how a client says that a control character is none.
const disabled = 255

// applyModes changes t as encoded modes ask for, up to the first that cannot be
// understood. A pseudoterminal's speed means nothing.
func applyModes(t *unix.Termios, modes []byte) {
	for len(modes) >= 5 && modes[0] != modeEnd && modes[0] < modeUnknown {
		applyMode(t, modes[0], binary.BigEndian.Uint32(modes[1:]))
		modes = modes[5:]
	}
}

func applyMode(t *unix.Termios, opcode byte, value uint32) {
	if i, ok := controlCharacters[opcode]; ok {
		if value == disabled {
			value = 0 // _POSIX_VDISABLE of Linux
		}
		t.Cc[i] = byte(value)
		return
	}
	for _, m := range []struct {
		bits  map[byte]uint32
		flags *uint32
	}{{inputModes, &t.Iflag}, {localModes, &t.Lflag}, {outputModes, &t.Oflag}, {controlModes, &t.Cflag}} {
		if bit, ok := m.bits[opcode]; ok {
			*m.flags &^= bit
			if value != 0 {
				*m.flags |= bit
			}
			return
		}
	}
	switch {
	case opcode == 90 && value != 0: // CS7
		t.Cflag = t.Cflag&^unix.CSIZE | unix.CS7
	case opcode == 91 && value != 0: // CS8
		t.Cflag = t.Cflag&^unix.CSIZE | unix.CS8
	}
}
