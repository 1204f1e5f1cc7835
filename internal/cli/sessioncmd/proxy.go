package sessioncmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"bake/internal/instance"
	"bake/internal/platform"
	"bake/internal/relay"
	"bake/internal/service/ssh"
)

// newSSHProxy is what ssh(1) starts as its ProxyCommand.
func (v *verbs) newSSHProxy() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:    ssh.ProxyVerb + " NAME",
		Short:  "Be the connection of ssh(1) to an instance",
		Hidden: true,
	}
	cmd.Flags().StringVar(&socket, ssh.ProxySocketFlag, "", "the connection of a `socket` that --ssh-sock-path has made")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if (socket == "") == (len(args) == 0) || len(args) > 1 {
			return errors.New("ssh-proxy is for ssh(1), and takes the name of one instance or --socket")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		conn, err := dialProxy(cmd.Context(), socket, args)
		if err != nil {
			return err
		}
		return join(v.stdio.Stdin, v.stdio.Stdout, conn)
	}
	return cmd
}

func dialProxy(ctx context.Context, socket string, args []string) (net.Conn, error) {
	if socket != "" {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	// Names are unique among all apps, and this one may have been built again since
	// the instance was started.
	i, err := instance.Find(instance.Query{Name: args[0]})
	if err != nil {
		return nil, err
	}
	return i.DialSSH(ctx)
}

// join joins the standard streams to a connection until that has ended.
func join(in, out *os.File, conn net.Conn) error {
	defer conn.Close()
	guest, ok := conn.(relay.Conn)
	if !ok {
		return fmt.Errorf("a %T cannot end one direction alone", conn)
	}
	r, err := platform.NewCancelReader(in)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer r.Cancel()
	wg.Go(func() {
		defer r.Close()
		io.Copy(guest, r)
		guest.CloseWrite()
	})
	if _, err = io.Copy(out, guest); errors.Is(err, syscall.EPIPE) {
		return nil // ssh(1) is done
	}
	return err
}
