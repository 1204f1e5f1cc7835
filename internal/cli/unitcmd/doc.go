// Package unitcmd has the verbs that print an app as a unit of what starts
// services: systemd, launchd, kubernetes and nomad. Each takes the flags of a run
// and -- ARGS. It parses, makes paths absolute and prints; package unit writes.
package unitcmd

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/cli/runflags"
	"bake/internal/payload"
	"bake/internal/unit"
)

// group is the heading of the verbs.
const group = "units"

// Add adds the verbs to parent, the command of the app img.
func Add(parent *cobra.Command, img *app.Image) {
	parent.AddGroup(&cobra.Group{ID: group, Title: "Services:"})
	for _, cmd := range []*cobra.Command{newSystemd(img), newLaunchd(img), newKubernetes(img), newNomad(img)} {
		cmd.GroupID = group
		parent.AddCommand(cmd)
	}
}

// A writer writes the unit of an app.
type writer func(unit.App) ([]byte, error)

// A verb is what the four have in common.
type verb struct {
	cmd    *cobra.Command
	flags  *runflags.Flags
	output string
	// own are the flags that are the verb's and not the app's.
	own []string
}

// newVerb makes the command; write is called with what its flags say.
func newVerb(img *app.Image, cmd *cobra.Command, write writer) *verb {
	v := &verb{cmd: cmd}
	cmd.Use += " [flags] [-- COMMAND [ARG...]]"
	cmd.DisableFlagsInUseLine = true
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	fs := cmd.Flags()
	fs.SortFlags = false
	v.flags = runflags.Register(fs, img.Manifest.Defaults)
	fs.StringVarP(&v.output, "output", "o", "", "`file` to write to, in place of stdout")
	v.own = append(v.own, "output")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
			return fmt.Errorf("%q is not a flag: put the container's command after --", args[0])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a, err := v.app(img, args)
		if err != nil {
			return err
		}
		data, err := write(a)
		if err != nil {
			return err
		}
		return v.print(cmd.OutOrStdout(), data)
	}
	return v
}

// stringVar adds a flag of the verb's own.
func (v *verb) stringVar(to *string, name, value, usage string) {
	v.cmd.Flags().StringVar(to, name, value, usage)
	v.own = append(v.own, name)
}

func (v *verb) boolVar(to *bool, name, usage string) {
	v.cmd.Flags().BoolVar(to, name, false, usage)
	v.own = append(v.own, name)
}

func (v *verb) print(stdout io.Writer, data []byte) error {
	if v.output == "" || v.output == "-" {
		_, err := stdout.Write(data)
		return err
	}
	// Variables and arguments may hold secrets: who wants it open says so.
	err := payload.ReplaceFile(v.output, 0o600, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", v.output, err)
	}
	return nil
}
