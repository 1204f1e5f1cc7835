package cli

import (
	"github.com/spf13/cobra"

	"bake/internal/inspect"
)

func newInspect(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "inspect APP", Short: "Say what an app holds",
		Example: "  bake inspect ./redis\n  bake inspect --json ./redis | jq .manifest.image",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := inspect.Inspect(args[0])
		if err != nil {
			return err
		}
		if asJSON {
			return r.PrintJSON(cmd.OutOrStdout())
		}
		return r.Print(cmd.OutOrStdout())
	}
	return cmd
}

func newVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify APP", Short: "Check every part of an app against its hash",
		Example: "  bake verify ./redis && ./redis",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspect.Verify(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
}

func newExtract() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "extract APP NAME -o FILE", Short: "Write one part of an app to a file",
		Example: "  bake extract ./redis kernel -o vmlinux\n  bake extract ./redis manifest -o - | jq .",
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "`file` to write to, - for standard output")
	cmd.MarkFlagRequired("output")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if output == "-" {
			return inspect.Extract(cmd.Context(), args[0], args[1], cmd.OutOrStdout())
		}
		return inspect.ExtractFile(cmd.Context(), args[0], args[1], output)
	}
	return cmd
}
