//go:build linux

// Package sftp serves files by the SSH File Transfer Protocol, version 3
// (draft-ietf-secsh-filexfer-02), with the extensions of OpenSSH's PROTOCOL,
// section 4, that scp(1), sftp(1) and sshfs(1) use.
//
// The files are the process's own: what its user may do in its root, a client may.
// Requests are answered in their order, one after the other, as OpenSSH's server
// does: memory is two packets and the open files, and what a client has written it
// reads.
//
// It is code of our own because github.com/pkg/sftp's server cannot be taught
// fsync, lsetstat, limits, expand-path or copy-data, makes directories with other
// permissions than asked for, renames over what is there, and does not append.
package sftp

// The types of packets, section 3.
const (
	typeInit     = 1
	typeVersion  = 2
	typeOpen     = 3
	typeClose    = 4
	typeRead     = 5
	typeWrite    = 6
	typeLstat    = 7
	typeFstat    = 8
	typeSetstat  = 9
	typeFsetstat = 10
	typeOpendir  = 11
	typeReaddir  = 12
	typeRemove   = 13
	typeMkdir    = 14
	typeRmdir    = 15
	typeRealpath = 16
	typeStat     = 17
	typeRename   = 18
	typeReadlink = 19
	typeSymlink  = 20
	typeStatus   = 101
	typeHandle   = 102
	typeData     = 103
	typeName     = 104
	typeAttrs    = 105
	typeExtended = 200
	typeReply    = 201
)

// protocolVersion is ours; later ones were never finished.
const protocolVersion = 3

// Bounds, in bytes: OpenSSH's, so that no client sends more.
const (
	maxPacket = 256 << 10
	maxData   = maxPacket - 1024
)

// maxHandles bounds how many files and directories a client has open.
const maxHandles = 4096
