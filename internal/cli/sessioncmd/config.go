package sessioncmd

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"bake/internal/instance"
	"bake/internal/service/ssh"
)

func (v *verbs) newSSHConfig() *cobra.Command {
	var (
		t    target
		host string
	)
	cmd := &cobra.Command{
		Use:   "ssh-config [flags] [NAME]",
		Short: "Print what ssh(1) and its friends need to log in to a running container",
		Long: "Print a Host block for ~/.ssh/config, by which ssh, scp, sftp, rsync, VS Code and Ansible find a\n" +
			"running container. It holds for every later instance of the same name, too.",
		Example: "  ssh-config --host web >>~/.ssh/config && ssh web\n" +
			"  ssh-config >cfg && rsync -e 'ssh -F cfg' -a src/ NAME:/srv",
		DisableFlagsInUseLine: true,
	}
	t.register(cmd, v.scope)
	cmd.Flags().StringVar(&host, "host", "", "what to call it (`alias`; default: the instance's name)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		rest, err := t.split(cmd, args)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return fmt.Errorf("%q is one argument too many: give the name of one instance", rest[0])
		}
		if strings.ContainsAny(host, " \t\r\n\"'#*?!,\\%@/") {
			return fmt.Errorf("--host %q cannot be an alias: leave out spaces, quotes and the characters * ? ! , # %% @ / \\", host)
		}
		i, err := instance.Find(v.query(t))
		if err != nil {
			return err
		}
		login, err := newLogin(i.Name, stableDir(i))
		if err != nil {
			return err
		}
		settings, err := login.Settings()
		if err != nil {
			return err
		}
		var b strings.Builder
		fmt.Fprintf(&b, "Host %s\n", cmp.Or(host, i.Name))
		for _, s := range settings {
			fmt.Fprintf(&b, "    %s %s\n", s.Key, s.Value)
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), b.String())
		return err
	}
	return cmd
}

// stableDir is the directory of every instance of i's name, while there is one; i's
// own where the longer path were too long for the agent's socket (unix(7)).
func stableDir(i instance.Instance) string {
	dir := filepath.Join(filepath.Dir(i.Dir), "names", i.Name)
	if len(filepath.Join(dir, ssh.AgentSocket)) > len(syscall.RawSockaddrUnix{}.Path)-1 {
		return i.Dir
	}
	return dir
}
