// Package socks is the guest's side of port publishing: a SOCKS5 server
// (RFC 1928) that connects to servers of the guest's loopback interface and
// nothing else.
//
// It serves CONNECT without authentication: whoever reaches its listener is
// the host, which connects with socks5.MethodStream, so that half-close and
// resets come through. Of other clients' connections the two directions end one
// by one if they have CloseWrite. It knows no transport.
package socks
