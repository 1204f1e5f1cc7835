// Package cli is the command tree of the bake tool. It parses flags and prints
// results; what a command does is in the packages that it calls.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/builder"
	"bake/internal/cli/instancecmd"
	"bake/internal/cli/sessioncmd"
)

// Env is what the commands use of the process that they run in.
type Env struct {
	Stdio app.Stdio
	// Exe is the path of the running bake.
	Exe string
	// Version is bake's own.
	Version string
}

// Main runs one command line and returns the exit code: 0, or 125 when bake
// failed, as docker-run(1) has it.
func Main(ctx context.Context, args []string, env Env) int {
	code := 0
	root := newRoot(env, &code)
	root.SetArgs(args[1:])
	root.SetOut(env.Stdio.Stdout)
	root.SetErr(env.Stdio.Stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(env.Stdio.Stderr, "bake: %s\n", app.Sentence(err))
		var e *app.Error
		if errors.As(err, &e) {
			return e.Code
		}
		return app.CodeFailed
	}
	return code
}

// groupApps is the heading of commands that make apps and look into them.
const groupApps = "apps"

// newRoot is the command line. code receives the exit code of what ran in a
// container.
func newRoot(env Env, code *int) *cobra.Command {
	root := &cobra.Command{
		Use:   "bake",
		Short: "Turn a container image into one executable that runs it in a microVM",
		Long: "bake turns a container image into one executable. Running that executable boots a\n" +
			"microVM and runs the container in it: no root, no daemon, no Docker.",
		Example: "  bake build docker.io/library/redis:7 -o redis\n" +
			"  ./redis -p 6379:6379\n" +
			"  bake run alpine -- uname -a",
		Version:      env.Version,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetVersionTemplate("bake {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; %s --help lists the flags", err, cmd.CommandPath())
	})
	root.AddGroup(&cobra.Group{ID: groupApps, Title: "Apps:"})
	for _, cmd := range []*cobra.Command{newBuild(env), newRun(env), newInspect(env), newVerify(), newExtract()} {
		cmd.GroupID = groupApps
		root.AddCommand(cmd)
	}
	scope := instancecmd.Scope{}
	instancecmd.Add(root, scope)
	sessioncmd.Add(root, scope, env.Stdio, code)
	root.AddCommand(newVolume(), newKernel(env), newInitrd(), newVersion(env))
	return root
}

func newVersion(env Env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of bake", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "bake %s\n", env.Version)
			return err
		},
	}
}

// progress prints the steps of a build on stderr.
func progress(w io.Writer) func(string) {
	return func(line string) { fmt.Fprintf(w, "bake: %s\n", line) }
}

// artifacts finds what is beside the running bake.
func artifacts(env Env) (builder.Artifacts, error) {
	return builder.DefaultArtifacts(env.Exe)
}

// Executable is the path of the running program, links resolved, so that what
// is installed beside it is found.
func Executable() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the running bake: %w", err)
	}
	return exe, nil
}
