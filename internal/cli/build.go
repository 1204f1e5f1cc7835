package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bake/internal/app"
	"bake/internal/builder"
	"bake/internal/cli/runflags"
	"bake/internal/payload"
)

// buildFlags are shared by build and run: what goes into an app.
type buildFlags struct {
	input, kernel, initrd, firecracker, vmm string
	arch                                    string
	compress                                bool
}

// The flags of the original's build mode can be set by these variables.
var buildEnv = map[string]string{
	"firecracker": "BAKE_BUILD_FIRECRACKER",
	"kernel":      "BAKE_BUILD_KERNEL",
	"initrd":      "BAKE_BUILD_INITRD",
	"rootfs":      "BAKE_BUILD_ROOTFS",
}

func (f *buildFlags) register(set *pflag.FlagSet) {
	set.StringVarP(&f.input, "input", "i", "", "carrier `file` to put the payload into (default: the one beside bake)")
	set.StringVar(&f.firecracker, "firecracker", os.Getenv(buildEnv["firecracker"]), "Firecracker `executable` to embed [$BAKE_BUILD_FIRECRACKER]")
	set.StringVar(&f.kernel, "kernel", os.Getenv(buildEnv["kernel"]), "kernel `image` or bundle (default: the newest that bake kernel ls shows) [$BAKE_BUILD_KERNEL]")
	set.StringVar(&f.initrd, "initrd", os.Getenv(buildEnv["initrd"]), "initrd `file` with bake's agent (default: the one beside bake) [$BAKE_BUILD_INITRD]")
	set.StringVar(&f.vmm, "vmm", "auto", "hypervisor to embed: auto, firecracker, qemu or none (`name`)")
	set.StringVar(&f.arch, "arch", runtime.GOARCH, "architecture of the app: amd64 or arm64 (`name`)")
	set.BoolVar(&f.compress, "compress", false, "compress the root filesystem: smaller, slower to build and to read")
}

func (f *buildFlags) options(env Env) (builder.Options, error) {
	a, err := artifacts(env)
	if err != nil {
		return builder.Options{}, err
	}
	switch f.arch {
	case "amd64", "arm64":
	case "x86_64":
		f.arch = "amd64"
	case "aarch64":
		f.arch = "arm64"
	default:
		return builder.Options{}, fmt.Errorf("--arch %q is not an architecture that bake builds for: choose amd64 or arm64", f.arch)
	}
	buildTime, err := sourceDateEpoch()
	if err != nil {
		return builder.Options{}, err
	}
	return builder.Options{
		BuildTime: buildTime,
		Input:     f.input, Kernel: f.kernel, Initrd: f.initrd, Firecracker: f.firecracker, VMM: f.vmm,
		Arch: f.arch, Compress: f.compress, Artifacts: a, Version: env.Version,
		Progress: progress(env.Stdio.Stderr),
	}, nil
}

// sourceDateEpoch is what https://reproducible-builds.org/specs/source-date-epoch
// says about the time of a build; 0 without it.
func sourceDateEpoch() (int64, error) {
	s := os.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("SOURCE_DATE_EPOCH is %q, which is not a number of seconds since 1970", s)
	}
	return n, nil
}

func newBuild(env Env) *cobra.Command {
	var (
		parts                                    buildFlags
		output, rootfs, entrypoint               string
		cwd, script, memory, ephemeral, bootArgs string
		args, vars                               []string
		uid, gid                                 uint32
		cpus                                     int
	)
	cmd := &cobra.Command{
		Use:   "build SOURCE -o APP",
		Short: "Pack an image into one executable",
		Long: "Pack an image into one executable.\n\n" +
			"SOURCE is an image reference, a tar of docker save, an OCI layout (folder or tar), the tar\n" +
			"or the folder of a root filesystem, or a ready EROFS, squashfs or ext4 file.",
		Example: "  bake build docker.io/library/redis:7 -o redis\n" +
			"  bake build rootfs.tar -o app --entrypoint /bin/server --env MODE=prod\n" +
			"  bake build --rootfs rootfs.squashfs -o app --vmm qemu",
		Args: cobra.MaximumNArgs(1),
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&output, "output", "o", "", "`file` to write the app to")
	fs.StringVar(&rootfs, "rootfs", os.Getenv(buildEnv["rootfs"]), "ready root filesystem `image` in place of SOURCE [$BAKE_BUILD_ROOTFS]")
	parts.register(fs)
	fs.StringVar(&entrypoint, "entrypoint", "", "`program` to run in place of the image's entrypoint and command")
	fs.StringArrayVar(&args, "arg", nil, "`argument` for the entrypoint, in place of the image's command (repeatable)")
	fs.StringArrayVar(&vars, "env", nil, "set `KEY=VALUE` in the container (repeatable)")
	fs.StringVar(&cwd, "cwd", "", "working `directory` in the container")
	fs.Uint32Var(&uid, "uid", 0, "user `id` in the container")
	fs.Uint32Var(&gid, "gid", 0, "group `id` in the container")
	fs.StringVar(&script, "init-script", "", "`script` that the app runs in place of booting; it finds the app in $BAKE_EXE")
	fs.IntVar(&cpus, "cpus", 0, "the app's default number of CPU `cores`")
	fs.StringVarP(&memory, "memory", "m", "", "the app's default memory (`size`)")
	fs.StringVar(&ephemeral, "ephemeral-disk-size", "", "the app's default ephemeral disk (`size`)")
	fs.StringVar(&bootArgs, "boot-args", "", "the app's default kernel `arguments`")
	network := runflags.RegisterNetwork(fs)
	cmd.RunE = func(cmd *cobra.Command, positional []string) error {
		if output == "" {
			return fmt.Errorf("there is no name for the app: give one with -o")
		}
		o, err := parts.options(env)
		if err != nil {
			return err
		}
		o.Output, o.Rootfs, o.InitScript = output, rootfs, script
		if len(positional) > 0 {
			o.Source = positional[0]
			if !fs.Changed("rootfs") {
				o.Rootfs = ""
			}
		}
		o.Args, o.Env, o.Cwd = args, vars, cwd
		if fs.Changed("entrypoint") {
			o.Entrypoint = &entrypoint
		}
		if fs.Changed("uid") {
			o.UID = &uid
		}
		if fs.Changed("gid") {
			o.GID = &gid
		}
		if o.Defaults, err = defaults(cpus, memory, ephemeral, bootArgs); err != nil {
			return err
		}
		if o.Network, err = network.Rules(); err != nil {
			return err
		}
		r, err := builder.Build(cmd.Context(), o)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), r.Path)
		return err
	}
	return cmd
}

// defaults are the flags of an app that are set when it is built.
func defaults(cpus int, memory, ephemeral, bootArgs string) (d payload.Defaults, err error) {
	if cpus < 0 {
		return d, fmt.Errorf("--cpus %d is not a number of CPUs: give 1 or more", cpus)
	}
	d.CPUs, d.BootArgs = cpus, strings.TrimSpace(bootArgs)
	if memory != "" {
		if d.MemoryMiB, err = app.ParseMiB(memory); err != nil {
			return d, fmt.Errorf("--memory: %w", err)
		}
	}
	if ephemeral != "" {
		if d.EphemeralDiskMiB, err = app.ParseMiB(ephemeral); err != nil {
			return d, fmt.Errorf("--ephemeral-disk-size: %w", err)
		}
	}
	return d, nil
}

// appName is what bake run calls the app of a source in its --help and errors.
func appName(source string) string {
	base := filepath.Base(source)
	if i := strings.IndexAny(base, ":@"); i > 0 {
		base = base[:i]
	}
	return base
}
