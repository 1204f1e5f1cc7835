// Package socks is the guest's side of port publishing: a SOCKS5 server
// (RFC 1928) that connects to servers of the guest's loopback interface and
// nothing else.
//
// It serves CONNECT without authentication: whoever reaches its listener is
// the host. It knows no transport; a listener's connections need CloseWrite
// for the two directions to end one by one.
package socks
