// Command bake-app is the carrier of every app: bake build puts a payload into
// it, and running the result boots the payload's VM. By itself it runs nothing.
package main

import (
	"context"
	"os"

	"bake/internal/app"
	"bake/internal/cli/appcmd"
	"bake/internal/service/files"
)

func main() {
	if files.IsRole(os.Args) {
		os.Exit(files.Main(os.Args))
	}
	os.Exit(appcmd.Main(context.Background(), os.Args, app.Stdio{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(),
	}))
}
