// Package sshclient logs in to a running guest and does there what ssh(1) and
// docker-exec(1) do: programs and shells, with or without a terminal, and
// forwarded ports. It is for what bake does itself, and for hosts without ssh(1).
//
// Both sides are pinned: the server has the key that the instance wrote down, and
// we have the one that it lets in. The package knows neither command lines nor
// how an instance is found.
package sshclient
