// Package traffic loads a transport and times it: bytes in one direction, one
// byte back and forth, connections one after the other and all at once, and
// datagrams as fast as they go. Either end can be the client, which asks and holds the clock, and
// the same code runs on both. It knows nothing of what the streams run over.
//
// A client sends a request of 9 bytes, an operation and a big-endian count,
// and the server does it:
//
//	'u' count  the client sends count bytes, the server answers with one
//	'd' count  the server sends count bytes
//	'e' count  the server sends back each of count bytes
//
// Requests can follow each other in one stream, so that a transport which has
// only one can be measured too.
package traffic
