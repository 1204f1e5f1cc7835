package instancecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/instance"
)

func newLogs(scope Scope) *cobra.Command {
	s := &selector{scope: scope}
	var follow bool
	var tail string
	cmd := &cobra.Command{
		Use:   "logs [flags] [NAME]",
		Short: "Print the output of an instance in the background",
		Long: "Print the output of an instance that was started with -d, stdout and stderr as they came. The\n" +
			"newest 8 MiB are there for certain. With -f it goes on until the instance ends.",
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print what comes, too, until the instance ends")
	cmd.Flags().StringVarP(&tail, "tail", "n", "all", "begin with the last `lines`")
	s.register(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		lines := -1
		if tail != "all" {
			n, err := strconv.ParseUint(tail, 10, 31)
			if err != nil {
				return fmt.Errorf("--tail %.40q is no number of lines: give one, or all", tail)
			}
			lines = int(n)
		}
		list, err := s.wanted(args)
		if err != nil {
			return err
		}
		if len(list) != 1 {
			return fmt.Errorf("the instance is named twice: give NAME or --name")
		}
		err = printLog(cmd.Context(), cmd.OutOrStdout(), list[0].query, lines, follow)
		return app.Failures([]error{err})
	}
	return cmd
}

// printLog prints the last lines of an instance's log, all of them if lines is
// negative, and with follow what comes until the instance ends.
func printLog(ctx context.Context, w io.Writer, q instance.Query, lines int, follow bool) error {
	i, err := instance.Find(q)
	living := err == nil
	if errors.Is(err, instance.ErrNotFound) {
		var e instance.Ended
		if e, err = instance.FindEnded(q); err == nil {
			i = e.Instance
		} else if !errors.Is(err, instance.ErrAmbiguous) {
			_, err = instance.Find(q) // whose words are about what runs
		}
	}
	if err != nil {
		return err
	}
	if !i.Detached {
		if !living {
			return fmt.Errorf("the instance %s was not started with -d: its output went to where it was started, and is not kept", cell(i.Name))
		}
		return fmt.Errorf("the instance %s was not started with -d: its output is where it was started, by the process %d", cell(i.Name), i.PID)
	}
	log := &logFile{path: i.LogPath()}
	defer log.close()
	if err := log.open(lines); err != nil {
		return fmt.Errorf("read the log of the instance %s: %w", cell(i.Name), err)
	}
	if err := log.copy(w); err != nil || !follow || !living {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		i.Wait(ctx) // whatever became of it, nothing more is written
	}()
	err = log.follow(w, ended)
	cancel()
	<-ended
	return err
}
