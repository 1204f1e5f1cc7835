// Package qemu is the hypervisor driver that runs microVMs with QEMU on Linux,
// with KVM where KVM is shown to run the guest's kernel and by emulation (TCG)
// everywhere else.
//
// The machine is QEMU's microvm (docs/system/i386/microvm.rst), or q35 where
// microvm cannot be had, for amd64 guests, and virt for arm64 guests. Disks
// are windows of files that QEMU inherits open, so that nothing is copied and
// nothing needs a path. The vsock device is served by package vhostuser in
// this process over a socket pair.
//
// Nothing survives this process: the kernel kills QEMU with it
// (prctl(2), PR_SET_PDEATHSIG), and QEMU's files have no names.
//
// The package knows no service, and nothing of what runs in the guest.
package qemu
