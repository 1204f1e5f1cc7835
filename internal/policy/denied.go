package policy

import (
	"net/netip"
	"strconv"
)

// A Denied is what a policy does not allow, and why.
type Denied struct {
	// What is what was asked for, such as "tcp 203.0.113.9:25" or "the name
	// example.com". What the guest said is made printable.
	What string
	// Why is the reason, a clause.
	Why string
}

// Error is one line for the user.
func (d *Denied) Error() string { return "denied " + d.What + " (" + d.Why + ")" }

func whatAddr(proto Proto, addr netip.Addr, port uint16) string {
	if proto == ICMP {
		return proto.String() + " " + addr.String()
	}
	return proto.String() + " " + netip.AddrPortFrom(addr, port).String()
}

func whatName(proto Proto, name string, port uint16) string {
	if proto == ICMP {
		return proto.String() + " " + name
	}
	return proto.String() + " " + name + ":" + strconv.Itoa(int(port))
}

// shown is a name of the guest's for people: as it is if it is a host name.
func shown(name string) string {
	if _, ok := canonicalName(name); ok {
		for i := range len(name) {
			if name[i] >= 0x80 {
				return printable(name)
			}
		}
		return name
	}
	return printable(name)
}
