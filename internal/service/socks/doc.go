// Package socks is the host's side of the guest's TCP: a SOCKS5 server (RFC
// 1928) on vsock port 10 that lets a gate connect, and carries what is said. It
// decides nothing, and knows neither vsock nor the policy.
//
// # How connections end
//
// The guest's agent connects with socks5.MethodStream, after which each
// direction is in frames and its end is one of them (package relay). Thus an
// end and a reset can be told apart all the way, whatever is between host and
// guest:
//
//   - FIN from the outside is a frame of length zero to the guest, and the other
//     direction goes on; RST from the outside, or a connection that broke, is
//     the end of the vsock connection without one.
//   - The guest says the same. A vsock connection that ends without FIN, as when
//     the machine stops, resets the connection to the outside.
//
// The guest side's rule is therefore: a read that gives io.EOF is the peer's
// FIN; every other error of a read or a write is its RST.
//
// The reply to a request comes when the connection stands or has failed, so
// that the guest's own handshake can wait for it. Clients that offer only "no
// authentication" get a bare stream, in which a reset looks like an end.
package socks
