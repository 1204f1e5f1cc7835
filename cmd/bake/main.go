// Command bake turns a container image into one executable that boots a
// microVM and runs the container in it.
package main

import (
	"context"
	"fmt"
	"os"

	"bake/internal/app"
	"bake/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	exe, err := cli.Executable()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bake: %v\n", err)
		os.Exit(app.CodeFailed)
	}
	os.Exit(cli.Main(context.Background(), os.Args, cli.Env{
		Stdio:   app.Stdio{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()},
		Exe:     exe,
		Version: version,
	}))
}
