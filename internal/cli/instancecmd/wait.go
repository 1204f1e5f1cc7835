package instancecmd

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"bake/internal/instance"
)

func newWait(scope Scope) *cobra.Command {
	s := &selector{scope: scope}
	cmd := &cobra.Command{
		Use:   "wait" + usage,
		Short: "Wait until instances end, and print their exit codes",
		Long: "Wait until instances end, and print their exit codes in the order of their names. Of one that has\n" +
			"ended already the code is known if it was kept with --rm=false.",
	}
	s.register(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := s.wanted(args)
		if err != nil {
			return err
		}
		return each(cmd, list, func(w wanted) (string, error) {
			code, err := waitFor(cmd.Context(), w.query)
			return strconv.Itoa(code), err
		})
	}
	return cmd
}

// waitFor is the exit code of a living instance when it ends, or else of one
// that has ended.
func waitFor(ctx context.Context, q instance.Query) (int, error) {
	i, err := instance.Find(q)
	if errors.Is(err, instance.ErrNotFound) {
		if e, ended := instance.FindEnded(q); ended == nil {
			return e.Exit.Code, nil
		}
		return 0, err
	}
	if err != nil {
		return 0, err
	}
	exit, err := i.Wait(ctx)
	if err != nil {
		// It may have ended between the two questions.
		if e, ended := instance.FindEnded(instance.Query{Name: i.ID, App: i.App}); ended == nil {
			return e.Exit.Code, nil
		}
		return 0, err
	}
	return exit.Code, nil
}
