// Package policy decides what the guest may reach.
//
// A [Policy] is made of layers, each with the rules that one place gave: those
// embedded in an app when it was built, and those of its command line. What
// the guest asks for is let through if every layer allows it, so that a layer
// can narrow what another one allows and never widen it. Beneath them are
// denials that need no rule: the host's loopback, link-local and cloud
// metadata addresses, and what is no destination of a connection at all.
//
// A rule with a name is about the addresses that bake's own resolver answered
// for that name, for as long as the answer is valid. The resolver reports them
// with [Policy.Answered]. A name is never resolved here, and an address never
// looked up: what somebody else's resolver said opens nothing.
//
// The package is pure: it opens no socket, reads no file and knows no service.
// Those that dial and those that answer DNS queries ask it.
package policy
