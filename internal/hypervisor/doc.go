// Package hypervisor is the contract between the run role and whatever runs a
// microVM: a [Driver] makes a [VM] from a [Config], and the rest of bake knows
// nothing else about Firecracker, QEMU or Virtualization.framework.
//
// The package knows no driver and no service. It never learns what a
// container, an image or a vsock port's protocol is. What a driver can do it
// says in [Capabilities]; callers plan from that and never from its name.
//
// Every driver passes the conformance suite in hypervisortest.
package hypervisor
