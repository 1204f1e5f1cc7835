// Package runflags is the command line of a running VM, the same for a packed
// app and for bake run. It turns flags into [app.Options] and back into
// arguments, and decides nothing.
package runflags

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"bake/internal/app"
	"bake/internal/payload"
	"bake/internal/service/egress"
	"bake/internal/service/forward"
	"bake/internal/wgconf"
)

// Flags are the registered flags of one command.
type Flags struct {
	set     *pflag.FlagSet
	network *Network
	dns     dnsFlags
	life    instanceFlags

	cpus                   int
	memory, ephemeral      string
	bootArgs, entrypoint   string
	env, publish           []string
	volumes, tmpfs         []string
	volumeMode             string
	publishAll             bool
	proxyProtocol          string
	cwd                    string
	uid, gid               uint32
	hypervisor             string
	proxy, wireGuard       string
	stopTimeout, bootLimit string
	tty, noTTY, verbose    bool
}

// Register adds the flags to set; def are the app's embedded defaults, which
// --help shows.
func Register(set *pflag.FlagSet, def payload.Defaults) *Flags {
	f := &Flags{set: set}
	mib := func(embedded, otherwise int) string {
		if embedded == 0 {
			embedded = otherwise
		}
		return strconv.Itoa(embedded)
	}
	set.IntVar(&f.cpus, "cpus", def.CPUs, "number of CPU `cores` (default: as many as the host has, or 1 where they are emulated)")
	set.StringVarP(&f.memory, "memory", "m", mib(def.MemoryMiB, app.DefaultMemoryMiB), "memory of the microVM, in MiB or with a unit: 512m, 2g (`size`)")
	set.StringVar(&f.bootArgs, "boot-args", def.BootArgs, "`arguments` for the kernel's command line")
	set.StringVar(&f.entrypoint, "entrypoint", "", "`program` to run in place of the image's entrypoint and command")
	set.StringArrayVarP(&f.env, "env", "e", nil, "set `KEY=VALUE` in the container, or pass the host's KEY")
	set.BoolVar(&f.verbose, "verbose", false, "show what the kernel and the agent say")
	set.StringVar(&f.cwd, "cwd", "", "working `directory` in the container")
	set.Uint32Var(&f.uid, "uid", 0, "user `id` in the container")
	set.Uint32Var(&f.gid, "gid", 0, "group `id` in the container")
	set.StringVar(&f.ephemeral, "ephemeral-disk-size", mib(def.EphemeralDiskMiB, app.DefaultEphemeralDiskMiB), "`size` of the disk for the container's changes, in MiB or with a unit")
	set.StringArrayVarP(&f.volumes, "volume", "v", nil, "share a folder or file of this host, or use the volume of that name: `HOST:CONTAINER[:FLAGS]`; FLAGS are ro, create, notify, cache=none|mmap|loose, uid=N, gid=N, nosuid, nodev, noexec, nocopy, and ext4 for an image of a disk")
	set.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount memory: `PATH[:SIZE]` or PATH:OPTIONS, such as size=64m,mode=1777")
	set.StringVar(&f.volumeMode, "volume-mode", app.VolumeModeAuto, "how folders are shared: auto, 9p or virtiofs (`mode`)")
	f.network = RegisterNetwork(set)
	f.dns.register(set)
	set.StringArrayVarP(&f.publish, "publish", "p", nil, "publish a port or a range of them: `[IP:][HOST:]VM[/udp]`, on 127.0.0.1 unless IP says otherwise")
	set.BoolVarP(&f.publishAll, "publish-all", "P", false, "publish the ports that the image exposes on free ports of 127.0.0.1")
	set.StringVar(&f.proxyProtocol, "publish-proxy-protocol", "", "begin published TCP connections with a PROXY protocol header of this `version`, v1 or v2 (v2 if none is given)")
	set.Lookup("publish-proxy-protocol").NoOptDefVal = "v2"
	set.StringVar(&f.proxy, "proxy", "", "send all outbound TCP through the proxy at `URL` (socks5, socks5h, http or https), or that of the environment (env); BAKE_PROXY stands for it")
	set.StringVar(&f.wireGuard, "wireguard-conf-file", "", "give the guest the WireGuard tunnel of this configuration `file`, as wg-quick reads it")
	set.StringVar(&f.hypervisor, "hypervisor", def.Hypervisor, "auto, firecracker, virtualization or qemu (`name`)")
	set.StringVar(&f.stopTimeout, "stop-timeout", "10", "`seconds` that the container has to end after it was asked to")
	set.StringVar(&f.bootLimit, "boot-timeout", "120", "`seconds` that the guest has to come up")
	f.life.register(set)
	set.BoolVarP(&f.tty, "tty", "t", false, "give the container a terminal even if ours is none")
	set.BoolVar(&f.noTTY, "no-tty", false, "give the container no terminal even if ours is one")
	return f
}

// Options are the flags' values and the environment's BAKE_ switches. args are
// what came after --.
func (f *Flags) Options(args []string) (app.Options, error) {
	o := app.Options{
		CPUs: f.cpus, Args: args, Env: f.env, Hypervisor: f.hypervisor, Verbose: f.verbose, PublishAll: f.publishAll,
		DryRun: os.Getenv("BAKE_DRY_RUN") == "1", NoReboot: os.Getenv("BAKE_NO_REBOOT") == "1",
	}
	if f.cpus < 0 {
		return o, fmt.Errorf("--cpus %d is not a number of CPUs: give 1 or more", f.cpus)
	}
	var err error
	if o.MemoryMiB, err = app.ParseMiB(f.memory); err != nil {
		return o, fmt.Errorf("--memory: %w", err)
	}
	if o.EphemeralDiskMiB, err = app.ParseMiB(f.ephemeral); err != nil {
		return o, fmt.Errorf("--ephemeral-disk-size: %w", err)
	}
	if o.StopTimeout, err = Seconds(f.stopTimeout); err != nil {
		return o, fmt.Errorf("--stop-timeout: %w", err)
	}
	if o.BootTimeout, err = Seconds(f.bootLimit); err != nil {
		return o, fmt.Errorf("--boot-timeout: %w", err)
	}
	if o.Network, err = f.network.Rules(); err != nil {
		return o, err
	}
	o.Hostnet = f.network.wanted()
	if err := f.dns.options(&o); err != nil {
		return o, err
	}
	if err := f.published(&o); err != nil {
		return o, err
	}
	if err := f.parseVolumes(&o); err != nil {
		return o, err
	}
	if err := f.life.options(f.set, &o); err != nil {
		return o, err
	}
	if f.set.Changed("wireguard-conf-file") {
		if o.WireGuard, err = wgconf.Load(f.wireGuard); err != nil {
			return o, err
		}
	}
	if o.Proxy, err = f.parseProxy(); err != nil {
		return o, err
	}
	switch {
	case f.tty && f.noTTY:
		return o, fmt.Errorf("--tty and --no-tty contradict each other: give one of them")
	case f.tty:
		o.Terminal = app.TerminalAlways
	case f.noTTY:
		o.Terminal = app.TerminalNever
	}
	set(f.set, "boot-args", &o.BootArgs, f.bootArgs)
	set(f.set, "entrypoint", &o.Entrypoint, f.entrypoint)
	set(f.set, "cwd", &o.Cwd, f.cwd)
	set(f.set, "uid", &o.UID, f.uid)
	set(f.set, "gid", &o.GID, f.gid)
	return o, nil
}

// published reads the flags that are about ports.
func (f *Flags) published(o *app.Options) error {
	for _, p := range f.publish {
		ports, err := forward.Parse(p)
		if err != nil {
			return err
		}
		if o.Publish = append(o.Publish, ports...); len(o.Publish) > forward.MaxPorts {
			break // Check says it
		}
	}
	if f.set.Changed("publish-proxy-protocol") {
		var err error
		if o.ProxyProtocol, err = forward.ParseProxyProtocol(f.proxyProtocol); err != nil {
			return fmt.Errorf("--publish-proxy-protocol: %w", err)
		}
	}
	return forward.Check(o.Publish)
}

// parseProxy reads --proxy or, without it, BAKE_PROXY, which keeps a password
// out of the list of processes.
func (f *Flags) parseProxy() (*egress.Proxy, error) {
	if f.set.Changed("proxy") {
		return egress.ParseProxy(f.proxy, os.Getenv)
	}
	env := os.Getenv("BAKE_PROXY")
	if env == "" {
		return nil, nil
	}
	p, err := egress.ParseProxy(env, os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("the environment's BAKE_PROXY, which stands for --proxy: %w", err)
	}
	return p, nil
}

// set stores value if the user gave the flag, even with its zero value.
func set[T any](fs *pflag.FlagSet, name string, to **T, value T) {
	if fs.Changed(name) {
		*to = &value
	}
}

// Args are the given flags of set as arguments for an app's own command line,
// without those that only lists.
func Args(set *pflag.FlagSet, without ...string) []string {
	skip := map[string]bool{}
	for _, name := range without {
		skip[name] = true
	}
	var args []string
	set.Visit(func(f *pflag.Flag) {
		if skip[f.Name] {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				args = append(args, "--"+f.Name+"="+v)
			}
			return
		}
		args = append(args, "--"+f.Name+"="+f.Value.String())
	})
	return args
}

// Seconds reads a number of seconds, or a duration with its unit.
func Seconds(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a time: write a number of seconds, or one with a unit such as 90s or 2m", s)
	}
	return d, nil
}
