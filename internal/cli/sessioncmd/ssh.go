package sessioncmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"bake/internal/instance"
	"bake/internal/service/ssh"
)

func (v *verbs) newSSH() *cobra.Command {
	var (
		t       target
		builtin bool
	)
	cmd := &cobra.Command{
		Use:   "ssh [flags] [NAME] [-- OPTION... [COMMAND [ARG...]]]",
		Short: "Log in to a running container",
		Long: "Log in to a running container by ssh(1). Its options and a command for the user's shell follow --.\n" +
			"Without ssh(1) on this host a client of bake's own is used, which has most of them.",
		Example:               "  ssh\n  ssh -- -L 8080:localhost:80 uptime\n  ssh -- -l nobody -t top",
		DisableFlagsInUseLine: true,
	}
	t.register(cmd, v.scope)
	cmd.Flags().BoolVar(&builtin, "builtin", false, "use bake's own client even if there is ssh(1)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		args, err := t.split(cmd, args)
		if err != nil {
			return err
		}
		options, command, err := splitSSH(args)
		if err != nil {
			return err
		}
		i, err := instance.Find(v.query(t))
		if err != nil {
			return err
		}
		program, lookErr := exec.LookPath("ssh")
		if builtin || errors.Is(lookErr, exec.ErrNotFound) {
			*v.code, err = v.runBuiltin(cmd.Context(), i, options, command)
			return err
		}
		if lookErr != nil {
			return fmt.Errorf("find ssh(1): %w; --builtin does without it", lookErr)
		}
		return v.execSSH(cmd.Context(), program, i, options, command)
	}
	return cmd
}

// execSSH becomes ssh(1), so that terminal, signals and exit code are its own. The
// user's options come first: of most settings ssh(1) takes the first.
func (v *verbs) execSSH(ctx context.Context, program string, i instance.Instance, options []sshOption, command []string) error {
	login, err := newLogin(i.ID, i.Dir)
	if err != nil {
		return err
	}
	settings, err := login.Settings()
	if err != nil {
		return err
	}
	argv := append([]string{"ssh"}, sshArgs(options)...)
	forward, err := v.forwardedAgent(ctx, program, argv[1:], login.Alias)
	if err != nil {
		return err
	}
	argv = append(argv, forward...)
	for _, s := range settings {
		argv = append(argv, "-o", s.Key+"="+s.Value)
	}
	argv = append(argv, login.Alias)
	if len(command) > 0 {
		argv = append(append(argv, "--"), command...)
	}
	if err := syscall.Exec(program, argv, v.stdio.Environ); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	return nil
}

// newLogin is the way to an instance through this very program.
func newLogin(name, dir string) (ssh.Login, error) {
	exe, err := os.Executable()
	if err != nil {
		return ssh.Login{}, fmt.Errorf("find the running program, which ssh(1) is to start: %w", err)
	}
	return ssh.NewLogin(exe, name, dir), nil
}

// forwardedAgent has ssh(1) forward the user's own agent, if it is to forward one.
// By itself it would take the agent that it logs in by (ssh_config(5),
// IdentityAgent). What it is to do may stand in the user's configuration, too, so
// we ask it.
func (v *verbs) forwardedAgent(ctx context.Context, program string, options []string, alias string) ([]string, error) {
	cmd := exec.CommandContext(ctx, program, append(append([]string{"-G"}, options...), alias)...)
	cmd.Env, cmd.Stderr = v.stdio.Environ, io.Discard
	out, err := cmd.Output()
	if err != nil {
		return nil, nil // it will tell the user what is wrong
	}
	if !strings.Contains("\n"+string(out), "\nforwardagent yes\n") {
		return nil, nil
	}
	own := v.variable("SSH_AUTH_SOCK")
	if own == "" {
		return []string{"-a"}, nil
	}
	path, err := ssh.QuotePath(own)
	if err != nil {
		return nil, err
	}
	return []string{"-o", "ForwardAgent=" + path}, nil
}
