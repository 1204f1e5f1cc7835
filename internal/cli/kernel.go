package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"bake/internal/initrd"
	"bake/internal/kernel"
	"bake/internal/payload"
)

func newKernel(env Env) *cobra.Command {
	cmd := &cobra.Command{Use: "kernel", Short: "Import and list guest kernels"}
	cmd.AddCommand(newKernelImport(), newKernelLs())
	return cmd
}

func newKernelImport() *cobra.Command {
	var modules, source string
	cmd := &cobra.Command{
		Use:   "import VMLINUZ [--modules DIR]",
		Short: "Take a distribution's kernel for guests",
		Long: "Take a distribution's kernel for guests: the image is unpacked, and of the modules just those\n" +
			"that a guest needs are kept, with what they depend on.",
		Example: "  bake kernel import /boot/vmlinuz-6.1.0-29-cloud-amd64 --modules /lib/modules/6.1.0-29-cloud-amd64",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&modules, "modules", "", "`folder` of the kernel's modules, /lib/modules/VERSION")
	cmd.Flags().StringVar(&source, "source", "", "where the kernel is from, for bake kernel ls (`text`)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		store, err := kernel.DefaultStore()
		if err != nil {
			return err
		}
		b, err := kernel.Import(cmd.Context(), store, kernel.ImportOptions{Image: args[0], ModulesDir: modules, Source: source})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), b.Dir)
		return err
	}
	return cmd
}

func newKernelLs() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "ls", Short: "List the kernels in the cache", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		store, err := kernel.DefaultStore()
		if err != nil {
			return err
		}
		bundles, err := store.List()
		if err != nil {
			return err
		}
		if asJSON {
			return kernel.PrintListJSON(cmd.OutOrStdout(), bundles)
		}
		return kernel.PrintList(cmd.OutOrStdout(), bundles)
	}
	return cmd
}

func newInitrd() *cobra.Command {
	var agent, runc, output string
	cmd := &cobra.Command{
		Use: "initrd --agent AGENT --runc RUNC -o FILE", Short: "Make an initrd of an agent and a static runc",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&agent, "agent", "", "bake-agent `executable` for the guest")
	cmd.Flags().StringVar(&runc, "runc", "", "static runc `executable` for the guest")
	cmd.Flags().StringVarP(&output, "output", "o", "", "`file` to write")
	for _, name := range []string{"agent", "runc", "output"} {
		cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return writeInitrd(output, agent, runc)
	}
	return cmd
}

// writeInitrd writes the file whole or not at all.
func writeInitrd(output, agent, runc string) error {
	a, err := os.Open(agent)
	if err != nil {
		return fmt.Errorf("read the agent: %w", err)
	}
	defer a.Close()
	r, err := os.Open(runc)
	if err != nil {
		return fmt.Errorf("read runc: %w", err)
	}
	defer r.Close()
	err = payload.ReplaceFile(output, 0o644, func(f *os.File) error {
		return initrd.Write(f, initrd.Options{Agent: a, Runc: r})
	})
	if err != nil {
		return fmt.Errorf("write the initrd %s: %w", output, err)
	}
	return nil
}
