// Package ninep serves a [tree.Tree] over 9P2000.L, the dialect of the Linux
// kernel's client (fs/9p, net/9p; the messages are those of
// include/net/9p/9p.h and diod's protocol.md), to one connection of a guest
// that may write anything it likes.
//
// It is a server of its own rather than that of a library because of what a
// mounted volume needs: several requests at once without a lock over the tree
// (the kernel's own locks order renames and lookups; a [tree.Node] does not care
// what its name is now), files that stay usable when they were unlinked, record
// locks, data that is read from the file straight into the reply and written
// from the request, and bounds on everything that the guest makes grow.
//
// Parts, from the bottom:
//
//	wire     numbers and fields of messages: decoder and encoder
//	fid      what the guest's numbers stand for
//	walk, open, attr, dir, xattr, lock   the requests
//	handle   which request is which
//	conn     reading, a bounded number of requests at once, flush, replies
//
// Where the protocol leaves a choice:
//   - qid.path is Attr.Ino, st_gen its Attr.Gen. qid.version is 0, which
//     forbids the client to keep data, or with Limits.Cacheable 1; one that
//     changes with the file would give each change a new inode.
//   - The user of an attach (n_uname; the client makes one for each user) owns
//     what is made through it.
//   - A lock that must wait is waited for here, up to Limits.LockWait, before
//     the client is told to come again. The client sends flock(2) as the same
//     request as fcntl(2), so towards the host both are record locks: they keep
//     out other guests, and programs of the host that use fcntl, not those that
//     use flock.
//   - Tauth, Trename and Tremove are not there (EOPNOTSUPP): the kernel's client
//     uses Trenameat and Tunlinkat.
//
// A request that is malformed ends the connection; one that is merely wrong is
// answered with an error. The package knows nothing of vsock and volumes.
package ninep
