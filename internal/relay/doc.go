// Package relay carries TCP connections over streams that cannot tell how they
// end, and knows nothing of who asked for them or where they lead.
//
// A vsock connection loses what TCP's two ends are told apart by. Linux reports
// a VIRTIO_VSOCK_OP_RST of an established connection as end-of-file
// (net/vmw_vsock/virtio_transport_common.c, virtio_transport_do_close), a Unix
// socket that was closed looks like one of which both directions were shut
// down (unix(7)), and some devices cannot end one direction alone. A download
// that broke would look complete. So the end is said in the stream: each
// direction of a [Stream] is a sequence of frames,
//
//	length u32, big-endian; payload
//
// and a length of zero is the FIN of that direction, after which nothing
// follows. A stream that ends without one was reset. Thus:
//
//   - FIN of the TCP connection: a frame of length zero.
//   - RST, a broken connection, a process that was killed: the stream is closed
//     without that.
//
// A frame is not a message: its bounds mean nothing to the reader, who needs
// no buffer for it, so its length need not be bounded.
//
// Nobody on the way is asked to hold a buffer for a connection that is idle.
package relay
