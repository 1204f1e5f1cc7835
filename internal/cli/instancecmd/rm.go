package instancecmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"bake/internal/instance"
)

func newRm(scope Scope) *cobra.Command {
	s := &selector{scope: scope}
	var force bool
	cmd := &cobra.Command{
		Use:   "rm" + usage,
		Short: "Remove what is kept of ended instances",
		Long:  "Remove the exit code and the log of ended instances that were kept with --rm=false.",
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill those that run, and find no fault with those that are not there")
	s.register(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := s.wanted(args)
		if err != nil {
			return err
		}
		if len(args) == 0 && s.name == "" && s.pid == 0 {
			return errors.New("say which instance to remove; ps -a lists them")
		}
		return each(cmd, list, func(w wanted) (string, error) {
			if force {
				return w.word, forceRemove(cmd.Context(), w.query)
			}
			return w.word, remove(w.query)
		})
	}
	return cmd
}

// remove removes an ended instance.
func remove(q instance.Query) error {
	e, err := instance.FindEnded(q)
	if err == nil {
		return e.Remove()
	}
	if i, living := instance.Find(q); living == nil {
		return fmt.Errorf("the instance %s runs: stop it first, or kill it with rm -f", cell(i.Name))
	}
	return err
}

// forceRemove kills a living instance, and removes what is kept of it, or of one
// that has ended.
func forceRemove(ctx context.Context, q instance.Query) error {
	i, err := instance.Find(q)
	switch {
	case errors.Is(err, instance.ErrNotFound):
	case err != nil:
		return err
	default:
		if err := i.Stop(ctx, 0); err != nil {
			return err
		}
		q = instance.Query{Name: i.ID, App: i.App}
	}
	e, err := instance.FindEnded(q)
	if errors.Is(err, instance.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.Remove()
}
