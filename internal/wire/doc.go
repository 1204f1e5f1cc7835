// Package wire is everything that host and guest say to each other over vsock:
// the port numbers, the frame that every structured stream is made of, the
// [BootManifest], and the messages of the console and control services.
//
// Both sides import it and it imports neither, so that a change of the
// protocol is a change of this package. It opens no connection and starts no
// goroutine: it encodes and decodes on an io.Reader or io.Writer that somebody
// else owns. Whatever it decodes may come from a hostile peer, so every length
// is bounded before anything is allocated.
package wire
