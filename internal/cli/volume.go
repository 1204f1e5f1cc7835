package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/volume"
)

func newVolume() *cobra.Command {
	cmd := &cobra.Command{
		Use: "volume", Short: "Make, list and remove named volumes",
		Long: "Make, list and remove named volumes: disks of this host that keep what apps write to them,\n" +
			"each an ext4 filesystem in a sparse file. An app gets one with -v NAME:/path, and one that is\n" +
			"not there is made.",
		Example: "  bake volume create pg 20g\n  ./postgres -v pg:/var/lib/postgresql/data\n  bake volume ls",
	}
	cmd.AddCommand(newVolumeCreate(), newVolumeLs(), newVolumeInspect(), newVolumeRm())
	return cmd
}

func newVolumeCreate() *cobra.Command {
	var size string
	cmd := &cobra.Command{
		Use: "create NAME [SIZE]", Short: "Make a named volume",
		Long: "Make a named volume of SIZE, a number with m, g or t after it (" + volume.FormatSize(volume.DefaultSize) + " if there is none). It takes\n" +
			"no more of this host's disk than what is written to it. One that exists already is left as it is.",
		Args: cobra.RangeArgs(1, 2),
	}
	cmd.Flags().StringVar(&size, "size", "", "the same as SIZE")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		if len(args) == 2 {
			if size != "" && size != args[1] {
				return fmt.Errorf("the size is given twice, as %s and as %s: leave one out", args[1], size)
			}
			size = args[1]
		}
		bytes := int64(volume.DefaultSize)
		if size != "" {
			var err error
			if bytes, err = volume.ParseSize(size); err != nil {
				return err
			}
		}
		store, err := volume.DefaultStore()
		if err != nil {
			return err
		}
		err = store.Create(name, bytes)
		if errors.Is(err, fs.ErrExist) {
			err = sameSize(store, name, size != "", bytes)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), name)
		return err
	}
	return cmd
}

// sameSize finds no fault with a volume that exists as it is wanted, as docker
// does, so that scripts can make what they need every time.
func sameSize(store *volume.Store, name string, said bool, size int64) error {
	info, err := store.Inspect(name)
	if err != nil {
		return err
	}
	if said && info.Size != size {
		return fmt.Errorf("the volume %s exists with %s, not %s, and is left as it is: choose another name, or remove it and what is in it with `bake volume rm %[1]s`",
			name, volume.FormatSize(info.Size), volume.FormatSize(size))
	}
	return nil
}

func newVolumeLs() *cobra.Command {
	var asJSON, quiet bool
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the named volumes", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the names alone")
	cmd.MarkFlagsMutuallyExclusive("json", "quiet")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		store, err := volume.DefaultStore()
		if err != nil {
			return err
		}
		list, err := store.List()
		if err != nil {
			return err
		}
		switch {
		case asJSON:
			return volume.PrintJSON(cmd.OutOrStdout(), list)
		case !quiet:
			return volume.PrintList(cmd.OutOrStdout(), list)
		}
		var names strings.Builder
		for _, v := range list {
			fmt.Fprintln(&names, v.Name)
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), names.String())
		return err
	}
	return cmd
}

func newVolumeInspect() *cobra.Command {
	return &cobra.Command{
		Use: "inspect NAME...", Short: "Describe named volumes as JSON", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := volume.DefaultStore()
			if err != nil {
				return err
			}
			var list []volume.Info
			var failed []error
			for _, name := range args {
				info, err := store.Inspect(name)
				if err != nil {
					failed = append(failed, err)
					continue
				}
				list = append(list, info)
			}
			// As docker does: what there is, and then what there is not.
			if err := volume.PrintJSON(cmd.OutOrStdout(), list); err != nil {
				return err
			}
			return app.Failures(failed)
		},
	}
}

func newVolumeRm() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm NAME...", Aliases: []string{"remove"}, Short: "Remove named volumes with all that is in them",
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "find no fault with a volume that is not there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		store, err := volume.DefaultStore()
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range args {
			err := store.Remove(name)
			if err != nil && !(force && errors.Is(err, fs.ErrNotExist)) {
				failed = append(failed, err)
				continue
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), name); err != nil {
				return err
			}
		}
		return app.Failures(failed)
	}
	return cmd
}
