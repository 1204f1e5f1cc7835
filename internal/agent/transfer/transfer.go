//go:build linux

// Package transfer moves files in and out of the container: the two roles of the
// agent's executable that run inside it, as the user of the session, in its
// namespaces and root. So no name is looked up outside of the container, and what
// the user may not read or write stays so.
//
// A role speaks on its standard input and output, which are an SSH channel. It
// knows nothing of SSH, of the agent or of the host.
package transfer

import (
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"bake/internal/agent/transfer/sftp"
)

// The roles.
const (
	RoleSFTP    = "sftp"    // an SFTP server
	RoleArchive = "archive" // one wire.ArchiveRequest, the only argument, in JSON
)

// Main is a role's program and returns its exit code. What failed is a sentence on
// standard error.
func Main(role string, args []string) int {
	// A closed channel is an error of the write, not the end of the process
	// before it has removed what it left half done.
	signal.Ignore(unix.SIGPIPE)
	var err error
	switch role {
	case RoleSFTP:
		err = sftp.Serve(os.Stdin, os.Stdout)
	case RoleArchive:
		err = archiveMain(args)
	default:
		fmt.Fprintf(os.Stderr, "bake-agent: there is no role %.32q\n", role)
		return 127
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s\n", err)
		return 1
	}
	return 0
}
