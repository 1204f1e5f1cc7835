//go:build linux

// Package wireguard makes the guest's tunnel as the boot manifest has it: the
// interface, with the kernel's own WireGuard, its addresses, its routes, and
// the endpoints of peers that are known by name.
//
// The tunnel's own packets, and questions for names to the host, stay on the
// guest's interface to the host; what the peers' AllowedIPs have goes into the
// tunnel. The package knows nothing of files of configuration, and does not
// write resolv.conf(5).
package wireguard
