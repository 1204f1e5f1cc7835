package socks5

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// A Reply is the REP field of RFC 1928, section 6.
type Reply byte

const (
	ReplySucceeded          Reply = 0
	ReplyFailure            Reply = 1
	ReplyNotAllowed         Reply = 2
	ReplyNetworkUnreachable Reply = 3
	ReplyHostUnreachable    Reply = 4
	ReplyRefused            Reply = 5
	ReplyTimeout            Reply = 6 // the RFC's "TTL expired"; every server means time
	ReplyCommand            Reply = 7
	ReplyAddressType        Reply = 8
)

func (r Reply) String() string {
	switch r {
	case ReplySucceeded:
		return "succeeded"
	case ReplyFailure:
		return "general failure"
	case ReplyNotAllowed:
		return "not allowed"
	case ReplyNetworkUnreachable:
		return "network unreachable"
	case ReplyHostUnreachable:
		return "host unreachable"
	case ReplyRefused:
		return "connection refused"
	case ReplyTimeout:
		return "timed out"
	case ReplyCommand:
		return "command not supported"
	case ReplyAddressType:
		return "address type not supported"
	}
	return fmt.Sprintf("reply %d", byte(r))
}

// Errno is what a connect(2) gives that fails for this reason, and 0 for
// success. A reply without a reason, and one that the RFC does not know, is a
// host that cannot be reached.
func (r Reply) Errno() syscall.Errno {
	switch r {
	case ReplySucceeded:
		return 0
	case ReplyNotAllowed:
		return syscall.EPERM
	case ReplyNetworkUnreachable:
		return syscall.ENETUNREACH
	case ReplyRefused:
		return syscall.ECONNREFUSED
	case ReplyTimeout:
		return syscall.ETIMEDOUT
	case ReplyCommand:
		return syscall.EOPNOTSUPP
	case ReplyAddressType:
		return syscall.EAFNOSUPPORT
	}
	return syscall.EHOSTUNREACH
}

// ReplyFor says why connecting failed, and ReplySucceeded for nil. An error
// that is EPERM or EACCES, as the kernel's of a packet filter, is "not
// allowed"; one that says nothing, such as a lack of descriptors, is
// ReplyFailure.
func ReplyFor(err error) Reply {
	var own *ReplyError
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return ReplySucceeded
	case errors.As(err, &own):
		return own.Reply
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return ReplyRefused
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return ReplyNotAllowed
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ENETDOWN):
		return ReplyNetworkUnreachable
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN),
		errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EINVAL):
		return ReplyHostUnreachable
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return ReplyAddressType
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return ReplyTimeout
	}
	return ReplyFailure
}

// A ReplyError is a reply other than success. It is the errno that
// [Reply.Errno] says.
type ReplyError struct {
	Reply Reply
	// What was asked for, or what is wrong with it; a clause.
	What string
}

func (e *ReplyError) Error() string { return e.What + ": " + e.Reply.String() }

// Unwrap gives the errno, or nil for success.
func (e *ReplyError) Unwrap() error {
	if errno := e.Reply.Errno(); errno != 0 {
		return errno
	}
	return nil
}
