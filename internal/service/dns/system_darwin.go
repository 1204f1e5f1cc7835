package dns

import "net"

// system is the host's resolver. On macOS resolv.conf(5) tells of the primary
// nameservers only: those that a VPN brings for its own domains, and what
// multicast DNS knows, come from the system's library, which this calls.
func system() systemResolver { return net.DefaultResolver }
