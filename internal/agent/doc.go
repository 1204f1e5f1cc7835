//go:build linux

// Package agent is PID 1 of the guest: it prepares the guest as the host's
// boot manifest says, runs the container in it, tells the host how that ended,
// and powers the guest off.
//
// It is a list of steps, each of which either works or ends the guest with one
// sentence for the user; the work is in the packages beneath. Whatever
// happens, the guest goes away: a failed step, a panic, a host that is gone, a
// step that takes forever.
package agent
