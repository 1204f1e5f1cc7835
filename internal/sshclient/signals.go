package sshclient

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// codeSignal + n is the exit code of a program that signal n ended, as shells
// have it.
const codeSignal = 128

// unknownSignal is the exit code for a signal without a number.
const unknownSignal = 255

// linuxSignals are the numbers of signal(7) on amd64 and arm64, by the names that
// RFC 4254, section 6.10, has for them, and those that a shell has for the others.
// The host's own numbers may differ.
var linuxSignals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
	"SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19,
	"TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28,
	"IO": 29, "PWR": 30, "SYS": 31,
}

// signalCode is the exit code of a program that a signal of the guest ended. A
// name may have the domain of who made it up, as in XCPU@openssh.com.
func signalCode(name string) int {
	name, _, _ = strings.Cut(name, "@")
	if n, ok := linuxSignals[strings.TrimPrefix(name, "SIG")]; ok {
		return codeSignal + n
	}
	return unknownSignal
}

// signalName is what section 6.9 of RFC 4254 calls a signal of the host.
func signalName(sig os.Signal) string {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return ""
	}
	return strings.TrimPrefix(unix.SignalName(s), "SIG")
}
