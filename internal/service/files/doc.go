// Package files is the host end of vsock port 12 and of virtiofs: the process
// that serves an app's shared folders, and its parent's side.
//
// A guest that owns its kernel can say anything on these connections, so what
// answers is a process of its own, "bake.files", which can reach nothing but
// the volumes. It is the app's own file once more: main asks [IsRole] before
// anything else and leaves to [Main]. It gets everything by descriptor: what to
// serve (a file that holds JSON), a control socket, a descriptor for each
// volume, and a vhost-user socket for each that goes by virtiofs; the
// connections of port 12 follow on the control socket (unix(7), SCM_RIGHTS).
// On Linux it lives twice: first it confines itself (confine_linux.go), which
// holds for one thread, and then executes itself again, so that it holds for
// all threads there will ever be.
//
// The package knows nothing of VMs or of what a user typed, and leaves what is
// said in 9P and FUSE to the packages beneath it.
package files
