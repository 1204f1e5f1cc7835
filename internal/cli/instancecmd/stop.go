package instancecmd

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bake/internal/cli/runflags"
	"bake/internal/instance"
)

// usage is how a verb is used that needs no name where there is only one.
const usage = " [flags] [NAME...]"

func newStop(scope Scope) *cobra.Command {
	s := &selector{scope: scope}
	var timeout string
	cmd := &cobra.Command{
		Use:   "stop" + usage,
		Short: "End instances in good order",
		Long: "End instances in good order, and return when they are gone: the container gets its stop signal,\n" +
			"and SIGKILL when it has not ended after the time that it has. Nothing restarts them.",
	}
	cmd.Flags().StringVarP(&timeout, "timeout", "t", "", "`seconds` that the container has to end (default: its --stop-timeout)")
	s.register(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d := time.Duration(-1)
		if cmd.Flags().Changed("timeout") {
			var err error
			if d, err = runflags.Seconds(timeout); err != nil {
				return fmt.Errorf("--timeout: %w", err)
			}
		}
		return s.running(cmd, args, func(i instance.Instance) error { return i.Stop(cmd.Context(), d) })
	}
	return cmd
}

func newKill(scope Scope) *cobra.Command {
	s := &selector{scope: scope}
	var signal string
	cmd := &cobra.Command{
		Use:   "kill" + usage,
		Short: "Send a signal to instances' containers",
		Long: "Send a signal to the first process of instances' containers, SIGKILL unless another one is given.\n" +
			"It returns when the signal is sent; wait waits for the end.",
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", "KILL", "`signal` to send: HUP, SIGUSR1, SIGRTMIN+3, or a number of Linux")
	s.register(cmd, false)
	cmd.RegisterFlagCompletionFunc("signal", cobra.FixedCompletions(commonSignals, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := parseSignal(signal)
		if err != nil {
			return err
		}
		return s.running(cmd, args, func(i instance.Instance) error { return i.Signal(cmd.Context(), name) })
	}
	return cmd
}

// running does something to the running instances that the flags and args name, all at the same time.
func (s *selector) running(cmd *cobra.Command, args []string, do func(instance.Instance) error) error {
	list, err := s.wanted(args)
	if err != nil {
		return err
	}
	return each(cmd, list, func(w wanted) (string, error) {
		i, err := instance.Find(w.query)
		if err != nil {
			return "", err
		}
		return w.show(i), do(i)
	})
}

// commonSignals are offered by the completion of a shell.
var commonSignals = []string{"HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "WINCH"}

var (
	signalName   = regexp.MustCompile(`^SIG[A-Z][A-Z0-9]*([+-][0-9]+)?$`)
	signalNumber = regexp.MustCompile(`^([1-9]|[1-5][0-9]|6[0-4])$`)
)

// parseSignal is a Linux signal's name with SIG before it, or its number. Whether
// there is one of that name the guest knows, which is always Linux.
func parseSignal(s string) (string, error) {
	if signalNumber.MatchString(s) {
		return s, nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if !signalName.MatchString(name) {
		return "", fmt.Errorf("--signal %.40q is no signal: give a name such as HUP or SIGRTMIN+3, or a number from 1 to 64", s)
	}
	return name, nil
}
