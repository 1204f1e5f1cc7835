package unitcmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bake/internal/app"
	"bake/internal/unit"
)

func newSystemd(img *app.Image) *cobra.Command {
	var o unit.SystemdOptions
	v := newVerb(img, &cobra.Command{
		Use: "systemd", Short: "Print a systemd service that runs this app with these flags",
		Example: "  app systemd -p 0.0.0.0:80:80 -v /srv/data:/data -o /etc/systemd/system/app.service\n" +
			"  app systemd --user -o ~/.config/systemd/user/app.service",
	}, func(a unit.App) ([]byte, error) { return unit.Systemd(a, o) })
	v.boolVar(&o.User, "user", "a service of your own, for systemctl --user")
	return v.cmd
}

func newLaunchd(img *app.Image) *cobra.Command {
	var o unit.LaunchdOptions
	v := newVerb(img, &cobra.Command{
		Use: "launchd", Short: "Print a launchd property list that runs this app with these flags",
		Example: "  app launchd -o ~/Library/LaunchAgents/bake.app.plist\n" +
			"  app launchd --daemon -o /Library/LaunchDaemons/bake.app.plist",
	}, func(a unit.App) ([]byte, error) {
		o.Home = os.Getenv("HOME")
		return unit.Launchd(a, o)
	})
	v.boolVar(&o.Daemon, "daemon", "a daemon of the system, in place of an agent of yours")
	v.stringVar(&o.Label, "label", "", "the job's `label` (default: bake. and the app's name)")
	return v.cmd
}

func newKubernetes(img *app.Image) *cobra.Command {
	var (
		o      unit.KubernetesOptions
		claims []string
	)
	v := newVerb(img, &cobra.Command{
		Use: "kubernetes", Short: "Print a Kubernetes Pod or Deployment that runs this app with these flags",
		Long: "Print a Kubernetes Pod or Deployment that runs this app with these flags, and a Service for its ports.\n" +
			"The image is what bake build --oci wrote, under the reference that you have pushed it as.",
		Example: "  app kubernetes --image registry.example/app:1 -p 80 --kvm-resource devices.kubevirt.io/kvm | kubectl apply -f -",
	}, func(a unit.App) ([]byte, error) {
		var err error
		if o.Claims, err = parseClaims(claims); err != nil {
			return nil, err
		}
		return unit.Kubernetes(a, o)
	})
	v.stringVar(&o.Image, "image", "", "the `reference` of the app's image")
	v.stringVar(&o.Kind, "kind", unit.KindPod, "Pod or Deployment (`kind`)")
	v.stringVar(&o.KVMResource, "kvm-resource", "", "the device plugin's `resource` that gives /dev/kvm; without it the container is privileged")
	v.boolVar(&o.NoKVM, "no-kvm", "no /dev/kvm: the VM is emulated")
	v.cmd.Flags().StringArrayVar(&claims, "claim", nil, "mount a persistent volume claim in place of a path of the host or for a named volume: `HOST=CLAIM` (repeatable)")
	v.own = append(v.own, "claim")
	return v.cmd
}

func parseClaims(list []string) (map[string]string, error) {
	claims := map[string]string{}
	for _, s := range list {
		host, claim, ok := strings.Cut(s, "=")
		if !ok || host == "" || claim == "" {
			return nil, fmt.Errorf("--claim %q is not HOST=CLAIM, where HOST is what stands before the first colon of a --volume", s)
		}
		if strings.Contains(host, "/") {
			var err error
			if host, err = filepath.Abs(host); err != nil {
				return nil, fmt.Errorf("find %s: %w", host, err)
			}
		}
		claims[host] = claim
	}
	return claims, nil
}

func newNomad(img *app.Image) *cobra.Command {
	var o unit.NomadOptions
	v := newVerb(img, &cobra.Command{
		Use: "nomad", Short: "Print a Nomad job that runs this app with these flags",
		Example: "  app nomad -p 0.0.0.0:8080:80 --restart always -o app.nomad.hcl",
	}, func(a unit.App) ([]byte, error) { return unit.Nomad(a, o) })
	v.cmd.Flags().StringArrayVar(&o.Datacenters, "datacenter", nil, "a `name` of where it may run (repeatable; default: all)")
	v.own = append(v.own, "datacenter")
	return v.cmd
}
