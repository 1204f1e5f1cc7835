// Package appcmd is the command line of a packed app. It parses and prints;
// package app does the work. Nothing that only a builder needs is imported
// here, because this is in every app.
package appcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/cli/instancecmd"
	"bake/internal/cli/runflags"
	"bake/internal/cli/sessioncmd"
	"bake/internal/payload"
)

// Main runs the app in this process's own file and returns its exit code.
func Main(ctx context.Context, args []string, stdio app.Stdio) int {
	fail := func(err error) int {
		fmt.Fprintf(stdio.Stderr, "bake: %s\n", app.Sentence(err))
		return app.CodeFailed
	}
	f, err := payload.OpenSelf()
	if err != nil {
		if errors.Is(err, payload.ErrNoPayload) {
			err = errors.New("this is the bare carrier of an app and holds nothing to run: make an app with bake build")
		}
		return fail(err)
	}
	defer f.Close()
	img, err := app.OpenImage(f)
	if err != nil {
		return fail(err)
	}
	script, err := img.InitScript()
	if err != nil {
		return fail(err)
	}
	if script != nil && os.Getenv("BAKE_RUN_VM") != "1" {
		return fail(app.RunInitScript(script, f.OSFile(), args[1:], stdio.Environ))
	}
	code := 0 // as --help and --version end
	cmd := command(args[0], img, stdio, &code)
	cmd.SetArgs(args[1:])
	cmd.SetContext(ctx)
	cmd.SetOut(stdio.Stdout)
	cmd.SetErr(stdio.Stderr)
	if err := cmd.Execute(); err != nil {
		fmt.Fprintf(stdio.Stderr, "bake: %s\n", app.Sentence(err))
		var e *app.Error
		if errors.As(err, &e) {
			return e.Code
		}
		return app.CodeFailed
	}
	return code
}

// command is the app's command line: it runs the container, and the verbs are its
// subcommands. code receives the container's exit code.
func command(name string, img *app.Image, stdio app.Stdio, code *int) *cobra.Command {
	name = filepath.Base(name)
	cmd := &cobra.Command{
		Use:   name + " [flags] [-- COMMAND [ARG...]]\n  " + name + " VERB",
		Short: "Run " + title(img.Manifest) + " in a microVM",
		Long: "Run " + title(img.Manifest) + " in a microVM.\n\n" +
			"Everything after -- goes to the container. Variables of the environment that begin with\n" +
			"BAKE_VM_ go to the container without that prefix.",
		Example: fmt.Sprintf("  %[1]s\n  %[1]s --memory 512m -e KEY=VALUE -- COMMAND ARG\n  BAKE_DRY_RUN=1 %[1]s", name),
		Version: version(img.Manifest),
		// A mistake in the flags is one sentence, not a page.
		SilenceUsage: true, SilenceErrors: true,
		DisableFlagsInUseLine: true,
		// It is one of the verbs, but not one that everybody needs to read of.
		CompletionOptions:          cobra.CompletionOptions{HiddenDefaultCmd: true},
		SuggestionsMinimumDistance: 1,
	}
	cmd.SetUsageTemplate(usageTemplate)
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.Flags().SortFlags = false
	// So that a command without -- before it is told from a mistake in the flags.
	cmd.Flags().SetInterspersed(false)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; %s --help lists the flags", err, cmd.CommandPath())
	})
	flags := runflags.Register(cmd.Flags(), img.Manifest.Defaults)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
			return fmt.Errorf("%q is not a flag: put the container's command after --, as in %s -- %s%s", args[0], name, strings.Join(args, " "), maybe(cmd, args[0]))
		}
		return nil
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := flags.Options(args)
		if err != nil {
			return err
		}
		*code, err = app.Run(cmd.Context(), img, o, stdio)
		return err
	}
	scope := instancecmd.Scope{App: img.File.ID()}
	instancecmd.Add(cmd, scope)
	sessioncmd.Add(cmd, scope, stdio, code)
	return cmd
}

// maybe is the verb that was meant by word, as the end of a sentence. A word of
// two letters is near to many, and more likely a program.
func maybe(cmd *cobra.Command, word string) string {
	near := cmd.SuggestionsFor(word)
	if len(word) < 3 || len(near) == 0 {
		return ""
	}
	return fmt.Sprintf("; or was it the verb %s that you meant?", strings.Join(near, " or "))
}

// title is what the app calls itself.
func title(m *payload.Manifest) string {
	if m.Image.Ref != "" {
		return m.Image.Ref
	}
	return "the packed image"
}

func version(m *payload.Manifest) string {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-8s %s\n", key, value)
		}
	}
	line("image", m.Image.Ref)
	line("digest", m.Image.Digest)
	line("bake", m.BakeVersion)
	line("kernel", m.Kernel.Version)
	line("vmm", strings.TrimSpace(m.VMM.Kind+" "+m.VMM.Version))
	return strings.TrimSuffix(b.String(), "\n")
}
