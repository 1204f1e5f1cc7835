//go:build linux

// Package sshd is the guest's SSH server: shells, programs and files of the
// container for the host's user, and forwarding both ways. It follows RFC 4252
// to 4254, with OpenSSH's extensions as its PROTOCOL file has them, and
// wire.RequestExec and wire.RequestArchive.
//
// Everything that is run is run in the container, by a [Container], and
// everything that is opened by a path is opened there with the rights of the
// user who logged in. Network connections are the guest's, which are the
// container's.
//
// There is one key that may log in, and it may do all: the server keeps the
// container apart from the client, not the client from the container. What
// either makes grow is bounded.
//
// The package knows nothing of vsock or of what the container is made of.
package sshd
