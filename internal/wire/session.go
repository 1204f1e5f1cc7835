package wire

import (
	"path"
	"strings"
)

// An SSH is what the guest's server on [PortSSH] proves itself by and whom it
// lets in. Both are made for one run, RFC 8032 (Ed25519).
type SSH struct {
	// HostKey is the seed of the server's private key, 32 bytes.
	HostKey []byte `json:"hostKey"`
	// ClientKey is the public key of the only one who may log in, 32 bytes.
	ClientKey []byte `json:"clientKey"`
}

// Requests on a session channel of the guest's SSH server beside those of
// RFC 4254, named as section 6 of RFC 4250 has it. The payload is one string that
// holds JSON. Each takes the place of "exec": "pty-req", "env" and "signal" go with
// [RequestExec], and an "exit-status" ends both.
const (
	// RequestExec runs a program by its arguments, and not by a shell's line:
	// an image need not have a shell. The payload is an [ExecRequest].
	RequestExec = "exec@bake"
	// RequestArchive packs or unpacks files of the container. The payload is an
	// [ArchiveRequest]; the channel's data is a tar stream (POSIX.1-2001 pax) in
	// its direction, and a sentence on stderr says what failed.
	RequestArchive = "archive@bake"
)

// SessionLimit bounds the JSON of a request, in bytes. Arguments and environment
// have to fit an SSH packet.
const SessionLimit = 192 << 10

// An ExecRequest is a program to run in the container beside its command.
type ExecRequest struct {
	Args []string `json:"args"`
	// Env is KEY=VALUE, over what the container's command has.
	Env []string `json:"env,omitempty"`
	// Cwd is the working directory; empty is that of the container's command.
	Cwd string `json:"cwd,omitempty"`
	// User is name or number, with an optional :group, looked up in the
	// container; empty is that of the container's command.
	User string `json:"user,omitempty"`
	// Detach leaves the program running when the session ends, with an end of file
	// to read and nobody who sees its output. The "exit-status" then tells of its
	// start: 0, 126 or 127.
	Detach bool `json:"detach,omitempty"`
}

// The values of ArchiveRequest.Op.
const (
	ArchivePack   = "pack"   // guest to host: Path, and all below it
	ArchiveUnpack = "unpack" // host to guest: into the directory Path
	ArchiveStat   = "stat"   // guest to host: an [ArchiveInfo] in JSON, no tar
)

// An ArchiveRequest says what to do with files of the container, as its root.
type ArchiveRequest struct {
	Op   string `json:"op"`
	Path string `json:"path"`
	// FollowLink follows a symbolic link at Path itself.
	FollowLink bool `json:"followLink,omitempty"`
	// Owners keeps the numeric owners of the archive; otherwise what is unpacked
	// belongs to root.
	Owners bool `json:"owners,omitempty"`
}

// ArchiveBase is what an archive of the path calls the file, and how every name in
// it begins: the last part of the path, or "." where the path is the root or ends
// in "/.", so that what is in the directory has no directory around it. The host
// takes no archive in which it is different.
func ArchiveBase(name string) string {
	if name == "." || strings.HasSuffix(name, "/.") {
		return "."
	}
	if base := path.Base(path.Clean("/" + name)); base != "/" {
		return base
	}
	return "."
}

// An ArchiveInfo tells what is at a path of the container.
type ArchiveInfo struct {
	// Exists is false if there is nothing; the rest is empty then.
	Exists bool   `json:"exists"`
	Name   string `json:"name,omitempty"` // the last part of its path
	Dir    bool   `json:"dir,omitempty"`
	Mode   uint32 `json:"mode,omitempty"`   // st_mode of stat(2)
	Size   int64  `json:"size,omitempty"`   // bytes
	Target string `json:"target,omitempty"` // of a symbolic link
}

// A Health is how the guest finds out whether the container does its work, as
// docker-run(1)'s --health flags have it. Times are in nanoseconds.
type Health struct {
	// Test is what the image's HEALTHCHECK holds: CMD and arguments, or
	// CMD-SHELL and a line for /bin/sh.
	Test          []string `json:"test"`
	Interval      int64    `json:"interval,omitempty"`
	Timeout       int64    `json:"timeout,omitempty"`
	StartPeriod   int64    `json:"startPeriod,omitempty"`
	StartInterval int64    `json:"startInterval,omitempty"`
	Retries       int      `json:"retries,omitempty"`
}

// The values of GuestMessage.Health.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// Stats are what a guest uses. Sizes are in bytes; counters begin with the boot.
type Stats struct {
	// CPUNanos is the container's CPU time, UserNanos and SystemNanos its parts
	// (cgroup-v2.rst, cpu.stat).
	CPUNanos    uint64 `json:"cpuNanos"`
	UserNanos   uint64 `json:"userNanos"`
	SystemNanos uint64 `json:"systemNanos"`
	CPUs        int    `json:"cpus"`
	// Memory is what the container holds without the page cache that it can
	// give back, as docker stats counts it.
	Memory uint64 `json:"memory"`
	// MemoryTotal and MemoryAvailable are the guest's (proc_meminfo(5)).
	MemoryTotal     uint64 `json:"memoryTotal"`
	MemoryAvailable uint64 `json:"memoryAvailable"`
	// Received and Sent are the bytes of the guest's way out and of published ports.
	Received uint64 `json:"received"`
	Sent     uint64 `json:"sent"`
	// Read and Written are the bytes of the guest's disks.
	Read    uint64 `json:"read"`
	Written uint64 `json:"written"`
	PIDs    int    `json:"pids"`
}
