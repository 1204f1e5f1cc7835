// Package vhostuser is a virtio-vsock device outside of the VMM: a vhost-user
// back end (QEMU, docs/interop/vhost-user.rst) with the device of virtio 1.2,
// section 5.10, for QEMU 7.2 and later on Linux. It needs no privilege, no
// kernel module and no /dev/vhost-vsock: it maps the guest's memory, which
// QEMU hands over as a file, and moves bytes between the guest's rings and
// Unix sockets of the host. What the host sees is the hybrid convention that
// package vsock speaks.
//
// One goroutine with one epoll instance does everything ([Device.Serve]), so
// nothing here takes a lock, and a change of the memory table cannot race the
// data. Bytes are read from sockets straight into the guest's buffers and
// written to sockets straight out of them; only what a socket does not take is
// copied, up to bufAlloc bytes a connection.
//
// Layers, from the bottom:
//
//	memory, shared    the guest's memory: translation, atomic words, fences
//	virtqueue, chain  a split virtqueue, walked as written by an enemy
//	message, session  what the front end (QEMU) asks: memory, rings, features
//	packet, credit    the virtio-vsock header, flow control
//	conn              the state of one connection: what it owes to whom
//	muxer             all connections, their deadlines and their ends
//	guest, deliver    packets from the guest, packets to the guest
//	host              the sockets of the host
//	loop, timer       epoll and deadlines
//
// Whatever the guest writes in its rings is hostile. A ring that breaks the
// rules stops the device until the guest's driver resets it; a packet that
// breaks them ends at most its own connection. The front end is trusted to be
// QEMU, and its messages are checked all the same.
//
// The package knows nothing of what runs over the connections, of how QEMU is
// started, nor of bake.
package vhostuser
