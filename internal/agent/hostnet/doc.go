// Package hostnet is the guest's way out: a TUN interface named hostnet with
// the default routes, and behind it a TCP of our own (gVisor's netstack) that
// ends every connection of the guest and carries it to the host as a stream.
//
//	application → kernel → TUN → link → netstack → flow → stream to the host
//	                            → datagrams (UDP, ICMP echo) → the host
//
// It decides nothing about where the guest may go: the host does, and what the
// host says is what the application sees. The SYN of a connection is answered
// when the host has connected, and if it could not, then with what the network
// would have said: RST for a refusal, ICMP for an unreachable destination,
// nothing for one that is silent.
//
// Packets are moved whole. The device has an MTU of nearly 64 KiB and the
// kernel's offloads, so nobody computes a checksum or cuts a segment: the
// kernel hands over what an application wrote in one read(2), netstack keeps
// that buffer, and it is written to the host's stream from there.
//
// It knows neither vsock nor SOCKS5: it is given functions that dial and send.
package hostnet
