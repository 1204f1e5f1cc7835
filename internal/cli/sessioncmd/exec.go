package sessioncmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bake/internal/sshclient"
	"bake/internal/wire"
)

func (v *verbs) newExec() *cobra.Command {
	var (
		t                target
		interactive, tty bool
		detach           bool
		user, workdir    string
		env              []string
	)
	cmd := &cobra.Command{
		Use:   "exec [flags] [NAME] -- COMMAND [ARG...]",
		Short: "Run a program in a running container",
		Long: "Run a program in a running container, beside its command. The exit code is the program's, 126 or\n" +
			"127 if it cannot be run or is not there, 128+n if signal n ended it, and 125 if bake failed.\n" +
			"Signals go to the program; a second Ctrl-C ends exec at once.",
		Example:               "  exec -- ps aux\n  exec -it -- sh\n  echo hi | exec -i -u nobody -w /tmp -- tee file",
		DisableFlagsInUseLine: true,
	}
	fs := cmd.Flags()
	fs.BoolVarP(&interactive, "interactive", "i", false, "give the program our standard input")
	fs.BoolVarP(&tty, "tty", "t", false, "give the program a terminal")
	fs.BoolVarP(&detach, "detach", "d", false, "leave the program running, and do not wait for it")
	fs.StringVarP(&user, "user", "u", "", "`user` in the container, by name or number: USER[:GROUP]")
	fs.StringVarP(&workdir, "workdir", "w", "", "working `directory` in the container")
	fs.StringArrayVarP(&env, "env", "e", nil, "set `KEY=VALUE` for the program, or pass our KEY (repeatable)")
	t.register(cmd, v.scope)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		args, err := t.split(cmd, args)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return fmt.Errorf("there is no command to run: give one, as in %s -- ps aux", cmd.CommandPath())
		}
		r := sshclient.Request{
			Exec:     &wire.ExecRequest{Args: args, Env: v.environment(env), Cwd: workdir, User: user, Detach: detach},
			Terminal: tty, Term: v.variable("TERM"),
		}
		std := sshclient.Streams{Stdout: v.stdio.Stdout, Stderr: v.stdio.Stderr}
		switch {
		case detach && (interactive || tty):
			return errors.New("a detached program has neither our input nor a terminal: leave out -d, or -i and -t")
		case interactive:
			std.Stdin = v.stdio.Stdin
			if tty && !sshclient.IsTerminal(std.Stdin) {
				return errors.New("-t with -i needs a terminal as standard input: leave out one of them")
			}
		}
		// Before the login, so that none is missed.
		signals, stop := catchSignals()
		defer stop()
		client, err := dial(cmd.Context(), v.query(t))
		if err != nil {
			return err
		}
		defer client.Close()
		*v.code, err = sshclient.Run(cmd.Context(), client, r, std, signals)
		return err
	}
	return cmd
}

// environment takes the values of bare names from our own environment, as
// docker-exec(1) does. A name that is not set there is left out.
func (v *verbs) environment(list []string) []string {
	var env []string
	for _, kv := range list {
		if strings.Contains(kv, "=") {
			env = append(env, kv)
			continue
		}
		for _, own := range v.stdio.Environ {
			if strings.HasPrefix(own, kv+"=") {
				env = append(env, own)
				break
			}
		}
	}
	return env
}
