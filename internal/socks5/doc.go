// Package socks5 is the protocol of RFC 1928, for servers and clients, and the
// user name and password of RFC 1929 for clients: it reads and writes messages
// and turns replies into the errors that a connect(2) gives, and back.
//
// It dials nothing, decides nothing, and reads no byte beyond a message, as
// data may follow it.
//
// Between bake's host and its guest it also negotiates [MethodStream], a
// private method (section 3 allows X'80' to X'FE'), after which the connection
// is a [relay.Stream].
package socks5
