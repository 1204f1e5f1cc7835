// Package copy copies files between this host and a container with the semantics of
// docker-cp(1): what a copy makes depends on whether its destination exists, and is
// a file or a directory, and on a slash or "/." at the end of a path.
//
// What comes from a container is hostile. It is unpacked under the destination and
// nowhere else, has to be called what was asked for, and brings no rights along.
//
// The package knows how a container is asked ([Remote]), and not how one is found
// or what the command line looks like. It works on every host.
package copy
