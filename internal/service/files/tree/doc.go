// Package tree is one directory or file of the host as a guest may use it: all
// that a file server does to the host's file system goes through here, and
// nothing that a guest names leads out of the shared directory.
//
// A [Node] is an object (file, directory, link, ...) that was reached by single
// names from the root; a [Handle] is an open file or directory. Neither keeps a
// path. On Linux a Node is an O_PATH descriptor (open(2)), got by openat2(2)
// with one component, O_NOFOLLOW, RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, and
// it is opened through /proc/self/fd, which leads to the object itself whatever
// has become of its name. So a rename, an unlink or a link that the guest or
// somebody on the host makes between two requests changes what a name means,
// never what a Node is. Elsewhere (darwin has no O_PATH) directories are open
// descriptors and other objects are a directory with a name, looked at again at
// each use and refused with ESTALE if another object is there.
//
// Decisions:
//   - Names are one component, 1 to 255 bytes, without '/' and NUL, and not "."
//     or ".."; every method that takes a name checks it (EINVAL, ENAMETOOLONG).
//   - Symbolic links are data: made, read, never followed.
//   - Mount points below the root are crossed, as a recursive bind mount does;
//     their objects get inode numbers of their own (Attr.Ino).
//   - Device nodes, sockets and FIFOs of the host are shown and never opened
//     (ENXIO). FIFOs and sockets can be made, device nodes not (EPERM).
//   - Extended attributes: user.* and the two POSIX ACLs. Others do not exist
//     (ENODATA) and cannot be set (EOPNOTSUPP), so no guest gives a file of
//     the host capabilities or a label.
//   - Permissions are the host's: the kernel checks the server's process. A
//     server that runs as root does what the guest's kernel has allowed, and
//     gives new objects to the owner that is asked for.
//
// What the process has to do for it: run with umask 0 (the guest has applied
// its program's), a high RLIMIT_NOFILE (a Node and a Handle hold a descriptor
// each), and SIGXFSZ ignored. Errors are always [syscall.Errno].
//
// Methods are safe for concurrent use; a method of a Node or Handle that was
// closed meanwhile returns EBADF.
//
// The package knows nothing of 9P, FUSE, or volumes.
package tree
