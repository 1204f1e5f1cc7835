// Package egress is the one way out of a guest: its [Gate] asks the policy,
// turns the addresses that stand for the host into the host's loopback, and
// dials, with the host's own routes and with the kernel's own errors, or
// through the user's proxy and then through nothing else.
//
// It knows no vsock and none of the protocols by which a guest asks; the
// services of ports 10 and 11 do. It makes no rules: package policy does.
package egress
