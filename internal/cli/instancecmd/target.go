package instancecmd

import (
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/instance"
)

// A selector are the ways to say which instances a verb is about: names and IDs
// as arguments, --name or --pid, or nothing where there is only one.
type selector struct {
	scope Scope
	pid   int
	name  string
}

// register adds the flags to cmd, and the completion of names. Ended instances
// are completed if the verb is about them too.
func (s *selector) register(cmd *cobra.Command, ended bool) {
	cmd.Flags().IntVarP(&s.pid, "pid", "p", 0, "the instance with this process `ID`")
	cmd.Flags().StringVar(&s.name, "name", "", "the instance with this `name`, the same as NAME")
	names := completeNames(s.scope, ended)
	cmd.ValidArgsFunction = names
	cmd.RegisterFlagCompletionFunc("name", names)
}

// A wanted instance is one that the user named, in their words.
type wanted struct {
	word  string // empty if nothing was said
	query instance.Query
}

// show is what to call i in the output: as the user called it, as docker does.
func (w wanted) show(i instance.Instance) string {
	if w.word == "" {
		return cell(i.Name)
	}
	return cell(w.word)
}

// wanted are the instances that the flags and args name, in their order.
func (s *selector) wanted(args []string) ([]wanted, error) {
	if s.name != "" {
		args = append(args, s.name)
	}
	switch {
	case s.pid < 0:
		return nil, fmt.Errorf("--pid %d is no process ID", s.pid)
	case s.pid != 0 && len(args) > 1:
		return nil, errors.New("--pid names one instance, and more than one name was given: give the names alone")
	case len(args) == 0:
		return []wanted{{query: instance.Query{PID: s.pid, App: s.scope.App}}}, nil
	}
	var list []wanted
	for _, name := range args {
		if name == "" {
			return nil, errors.New("the name of an instance is empty")
		}
		list = append(list, wanted{name, instance.Query{Name: name, PID: s.pid, App: s.scope.App}})
	}
	return list, nil
}

// each does something to every instance at the same time, and prints in their
// order what to call those that it was done to. What failed is one error with
// exit code 1.
func each(cmd *cobra.Command, list []wanted, do func(wanted) (show string, err error)) error {
	shown := make([]string, len(list))
	failed := make([]error, len(list))
	var wg sync.WaitGroup
	for i, w := range list {
		wg.Go(func() { shown[i], failed[i] = do(w) })
	}
	wg.Wait()
	for i := range list {
		if failed[i] != nil {
			continue
		}
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), shown[i]); err != nil {
			return err
		}
	}
	return app.Failures(failed)
}
