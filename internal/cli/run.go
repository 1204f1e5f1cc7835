package cli

import (
	"fmt"
	"syscall"

	"github.com/spf13/cobra"

	"bake/internal/builder"
	"bake/internal/cli/runflags"
	"bake/internal/payload"
)

func newRun(env Env) *cobra.Command {
	var (
		parts buildFlags
		quiet bool
	)
	cmd := &cobra.Command{
		Use:   "run SOURCE [flags] [-- COMMAND [ARG...]]",
		Short: "Pack an image, or take it from the cache, and run it",
		Long: "Pack an image and run it, without leaving a file behind. What was packed is kept in the\n" +
			"cache by the image's digest and used again.",
		Example: "  bake run alpine -- uname -a\n  echo hi | bake run ./rootfs.tar -- cat",
		Args: func(cmd *cobra.Command, args []string) error {
			n := len(args)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				n = dash
			}
			if n == 0 {
				return fmt.Errorf("there is nothing to run: give a SOURCE, as in bake run alpine -- uname -a")
			}
			if n > 1 {
				return fmt.Errorf("%q is neither a flag nor the SOURCE: put the container's command after --", args[1])
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	flags := runflags.Register(fs, payload.Defaults{})
	parts.register(fs)
	fs.BoolVarP(&quiet, "quiet", "q", false, "do not say what is packed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		// What is wrong with the app's flags is said before anything is packed.
		if _, err := flags.Options(args[1:]); err != nil {
			return err
		}
		o, err := parts.options(env)
		if err != nil {
			return err
		}
		o.Source = args[0]
		if quiet {
			o.Progress = nil
		}
		path, err := builder.Cached(cmd.Context(), o)
		if err != nil {
			return err
		}
		argv := append([]string{appName(o.Source)}, runflags.Args(fs, buildOnly...)...)
		if len(args) > 1 {
			argv = append(append(argv, "--"), args[1:]...)
		}
		if err := syscall.Exec(path, argv, env.Stdio.Environ); err != nil {
			return fmt.Errorf("run the packed app %s: %w", path, err)
		}
		return nil
	}
	return cmd
}

// buildOnly are the flags of run that the app does not have.
var buildOnly = []string{"input", "firecracker", "kernel", "initrd", "vmm", "arch", "compress", "quiet"}
