// Package initrd writes the guest's initial filesystem: an uncompressed cpio
// archive in the format newc, as the kernel's
// driver-api/early-userspace/buffer-format.rst describes it. Equal inputs give
// equal bytes.
//
// It knows what the guest's agent expects to find, and nothing of how the
// agent, runc or a kernel's modules are made.
package initrd
