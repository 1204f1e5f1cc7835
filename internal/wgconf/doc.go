// Package wgconf reads a WireGuard configuration file: what wg(8) calls the
// CONFIGURATION FILE FORMAT, and of wg-quick(8) that which describes the
// interface. It says what of that goes to the guest.
//
// It is strict: a file means one thing or is refused with one sentence that
// names the line, and never shows a secret. It opens no connection, looks up no
// name and knows nothing of the guest but the addresses of its network.
package wgconf
