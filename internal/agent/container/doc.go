//go:build linux

// Package container runs the image's command in a container with runc: it
// turns a wire.Process into an OCI runtime configuration, starts it, and says
// how it ended.
//
// The guest is the sandbox. The container is for the command to find what it
// would find under Docker, not to confine it: it has all capabilities and
// devices, no seccomp filter and no user namespace, and it shares the guest's
// network.
//
// The package knows nothing of vsock or of how the root filesystem came to be.
package container
