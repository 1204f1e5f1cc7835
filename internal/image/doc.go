// Package image finds out where an image comes from and opens it: a registry, a
// docker-archive, an OCI layout in a directory or a tar, a plain tar or
// directory of a root filesystem, or a filesystem image that is ready as it is.
//
// [Open] answers with one [Image]: its configuration, and its contents as
// layers, a directory or a ready file. Layers are handed out as uncompressed
// tar streams whose digests are checked while they are read; nothing is
// unpacked. Every byte of a source is untrusted: lengths are bounded before
// anything is allocated, and names inside archives never become paths of the
// host.
//
// The package doesn't know what becomes of the contents.
package image
