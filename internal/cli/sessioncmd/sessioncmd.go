package sessioncmd

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/cli/instancecmd"
	"bake/internal/instance"
)

// Add adds the verbs to parent. A verb that ends without an error sets code to the
// exit code of what it ran.
func Add(parent *cobra.Command, scope instancecmd.Scope, stdio app.Stdio, code *int) {
	instancecmd.AddGroup(parent)
	v := &verbs{scope: scope, stdio: stdio, code: code}
	for _, cmd := range []*cobra.Command{v.newSSH(), v.newExec(), v.newCp(), v.newSSHConfig(), v.newSSHProxy()} {
		cmd.Flags().SortFlags = false
		// What follows the first argument belongs to the container, or to ssh(1),
		// but for cp, which has paths.
		cmd.Flags().SetInterspersed(cmd.Name() == "cp")
		cmd.GroupID = instancecmd.Group
		parent.AddCommand(cmd)
	}
}

// verbs are what the commands share.
type verbs struct {
	scope instancecmd.Scope
	stdio app.Stdio
	code  *int
}

// A target is which instance a verb is about: its name as an argument, --name or
// --pid, or nothing where there is only one.
type target struct {
	name string
	pid  int
}

func (t *target) register(cmd *cobra.Command, scope instancecmd.Scope) {
	cmd.Flags().IntVarP(&t.pid, "pid", "p", 0, "the instance with this process `ID`")
	cmd.Flags().StringVar(&t.name, "name", "", "the instance with this `name`, the same as NAME")
	names := instancecmd.CompleteNames(scope)
	cmd.RegisterFlagCompletionFunc("name", names)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(cmd, args, word)
	}
}

// split tells the name of an instance in front of -- from what is behind it. The
// dash may be left out behind a name.
func (t *target) split(cmd *cobra.Command, args []string) ([]string, error) {
	if cmd.ArgsLenAtDash() == 0 || len(args) == 0 {
		return args, nil
	}
	name, rest := args[0], args[1:]
	switch {
	case name == "":
		return nil, errors.New("the name of an instance is empty")
	case t.name != "" && t.name != name:
		return nil, fmt.Errorf("%s and --name %s are two instances: give one of them, and put what is not a name after --", name, t.name)
	case len(rest) > 0 && rest[0] == "--":
		rest = rest[1:]
	case len(rest) > 0 && len(rest[0]) > 1 && rest[0][0] == '-':
		return nil, fmt.Errorf("%s stands behind the instance %s: put the flags of %s before it, and what is for others after --", rest[0], name, cmd.Name())
	}
	t.name = name
	return rest, nil
}

func (v *verbs) query(t target) instance.Query {
	return instance.Query{Name: t.name, PID: t.pid, App: v.scope.App}
}

// catchSignals returns the signals that go to what runs in the container, until
// stop is called.
func catchSignals() (c chan os.Signal, stop func()) {
	c = make(chan os.Signal, 16)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	return c, func() { signal.Stop(c) }
}

// variable is the value of a variable of our environment, empty without one.
func (v *verbs) variable(name string) string {
	value := ""
	for _, kv := range v.stdio.Environ {
		if len(kv) > len(name) && kv[len(name)] == '=' && kv[:len(name)] == name {
			value = kv[len(name)+1:]
		}
	}
	return value
}

// endedBy is the exit code of a program that a signal ends: 0 for one that ends
// none.
func endedBy(sig os.Signal) int {
	s, ok := sig.(syscall.Signal)
	if !ok || s == syscall.SIGWINCH {
		return 0
	}
	return 128 + int(s)
}
