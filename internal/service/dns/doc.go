// Package dns is the guest's nameserver, on the host: it answers what the host
// itself would be told.
//
// A question is answered by the first of these that knows its name: localhost
// (RFC 6761), the host's own name and --add-host, the host's hosts(5), and the
// nameservers of the host's resolv.conf(5), or those of --dns. Both files are
// read again when they change. Before the names of the outside, the policy is
// asked; what it denies does not exist (NXDOMAIN with the extended error
// Blocked, RFC 8914). Every address that the guest is given, the policy is told
// of first, so that a rule for a name opens what that name means now.
//
// Messages are taken apart and put together again, in both directions. The
// guest gets of an answer only what answers its question: the chain of aliases
// from the name that it asked for, and never an address beside it.
//
// The package knows neither how questions reach it (datagrams by
// [Server.Exchange], connections by [Server.ServeStream]) nor what a policy is
// made of.
package dns
