// Package virtiofs serves a tree of the host's files (package tree) as a virtio
// file system device (virtio 1.2, section 5.11): FUSE (linux/fuse.h, fuse(4))
// in the requests of a vhost-user device (package vhostuser).
//
// The FUSE messages are read and written by go-fuse's protocol server, which
// works in the guest's memory: what a guest reads of a file goes by preadv(2)
// straight into its pages. This package numbers the objects that the guest
// knows, counts how often it looked them up, keeps what it has open, and
// translates to package tree. go-fuse's own vhost-user server is not used: it
// takes a ring's size and addresses on trust.
//
// What a guest sees of changes that others make on the host is governed by
// [Cache]. With each of them a file that is opened is read anew from the host.
//
// Locks, both of fcntl(2) and of flock(2), are the host's: they keep guests
// that share a directory apart, from each other and from the host's programs.
// A guest's kernel does not tell the device of a signal, so a program that
// waits for a lock cannot be killed until it has got it, as on a hard NFS mount;
// and nobody finds out that two programs wait for each other.
//
// When the server dies before its machine, what the guest has asked stays
// unanswered: QEMU has no other back end to turn to, and a program in the guest
// that uses the share cannot even be killed. Who runs the server must end the
// machine then.
//
// Whatever the guest sends is hostile. Names, modes and sizes are package
// tree's to check; here the sizes of messages, the numbers of objects, and how
// much a guest may keep are. A request is handled in a bounded number of
// goroutines, with at most one buffer of the size of the guest's own.
//
// The package knows nothing of volumes and of how QEMU is started.
package virtiofs
