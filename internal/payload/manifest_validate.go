package payload

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a manifest. Those on the process follow from execve(2): one argument or variable is at most
// MAX_ARG_STRLEN (128 KiB, include/uapi/linux/binfmts.h); a path is at most PATH_MAX.
const (
	maxArg      = 128 << 10
	maxArgs     = 4096
	maxPath     = 4096
	maxText     = 1024
	maxWord     = 256
	maxBootArgs = 2048 // COMMAND_LINE_SIZE of arch/x86/include/asm/setup.h and arm64's
	maxLayers   = 512
	maxLabels   = 1024
	maxLabel    = 64 << 10
	maxPorts    = 1024
	maxNetRules = 1024
)

var (
	digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$|^sha512:[0-9a-f]{128}$`)
	sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)
	signalForm = regexp.MustCompile(`^[A-Z0-9+-]{1,32}$`)
	portForm   = regexp.MustCompile(`^[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?$`)
	wordForm   = regexp.MustCompile(`^[a-z0-9_-]{0,32}$`)
)

// Validate checks every field against its bounds and returns the first fault as a sentence that names the field.
func (m *Manifest) Validate() error {
	if m.Version < 1 || m.Version > ManifestVersion {
		return fmt.Errorf("the manifest: version is %d, this bake knows only 1 to %d", m.Version, ManifestVersion)
	}
	for _, check := range []error{
		text("bakeVersion", m.BakeVersion, maxWord),
		oneOf("target.os", m.Target.OS, "linux", "darwin"),
		oneOf("target.arch", m.Target.Arch, "amd64", "arm64"),
		text("image.ref", m.Image.Ref, maxText),
		optional("image.digest", m.Image.Digest, digestForm),
		list("image.layers", m.Image.Layers, maxLayers, func(field, s string) error { return match(field, s, digestForm) }),
		oneOf("rootfs.type", m.Rootfs.Type, "erofs", "squashfs", "ext4"),
		m.Process.validate(),
		m.Process.Healthcheck.validate(m.Version),
		text("kernel.version", m.Kernel.Version, maxWord),
		text("kernel.source", m.Kernel.Source, maxText),
		oneOf("kernel.arch", m.Kernel.Arch, "", "amd64", "arm64"),
		optional("kernel.sha256", m.Kernel.SHA256, sha256Form),
		oneOf("vmm.kind", m.VMM.Kind, "", "qemu", "firecracker"),
		text("vmm.version", m.VMM.Version, maxWord),
		relative("vmm.entry", m.VMM.Entry),
		within("defaults.cpus", m.Defaults.CPUs, 1024),
		within("defaults.memoryMiB", m.Defaults.MemoryMiB, 64<<20),
		within("defaults.ephemeralDiskMiB", m.Defaults.EphemeralDiskMiB, 1<<30),
		text("defaults.bootArgs", m.Defaults.BootArgs, maxBootArgs),
		match("defaults.hypervisor", m.Defaults.Hypervisor, wordForm),
		m.Network.validate(m.Version),
	} {
		if check != nil {
			return fmt.Errorf("the manifest: %w", check)
		}
	}
	return nil
}

func (p *Process) validate() error {
	arg := func(field, s string) error { return text(field, s, maxArg) }
	if n := len(p.Labels); n > maxLabels {
		return fmt.Errorf("process.labels has %d entries, more than %d", n, maxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		if err := errors.Join(text("process.labels", key, maxText), text("process.labels", p.Labels[key], maxLabel)); err != nil {
			return err
		}
	}
	if p.Cwd != "" && !strings.HasPrefix(p.Cwd, "/") {
		return fmt.Errorf("process.cwd is %.80q, not an absolute path", p.Cwd)
	}
	return errors.Join(
		list("process.entrypoint", p.Entrypoint, maxArgs, arg),
		list("process.cmd", p.Cmd, maxArgs, arg),
		list("process.args", p.Args, maxArgs, arg),
		list("process.env", p.Env, maxArgs, func(field, s string) error {
			if strings.IndexByte(s, '=') < 1 {
				return fmt.Errorf("%s is %.80q, not NAME=VALUE", field, s)
			}
			return arg(field, s)
		}),
		text("process.cwd", p.Cwd, maxPath),
		text("process.user", p.User, maxWord),
		optional("process.stopSignal", p.StopSignal, signalForm),
		list("process.exposedPorts", p.ExposedPorts, maxPorts, func(field, s string) error { return match(field, s, portForm) }),
	)
}

func (h *Healthcheck) validate(version int) error {
	if h == nil {
		return nil
	}
	if version < 3 {
		return fmt.Errorf("process.healthcheck is in version %d, which has none", version)
	}
	words := map[string]int{HealthNone: 1, HealthShell: 2, HealthCommand: len(h.Test)}
	if n := len(h.Test); n > 0 && (words[h.Test[0]] != n || h.Test[0] == HealthCommand && n < 2) {
		return fmt.Errorf("process.healthcheck.test begins with %.80q and has %d words, which is no test", h.Test[0], n)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"interval", h.Interval}, {"timeout", h.Timeout}, {"startPeriod", h.StartPeriod}, {"startInterval", h.StartInterval},
	} {
		if d.value < 0 || d.value > 0 && d.value < time.Millisecond {
			return fmt.Errorf("process.healthcheck.%s is %v, not 0 or at least 1ms", d.field, d.value)
		}
	}
	return errors.Join(
		list("process.healthcheck.test", h.Test, maxArgs, func(field, s string) error { return text(field, s, maxArg) }),
		within("process.healthcheck.retries", h.Retries, 1<<20),
	)
}

func (n *Network) validate(version int) error {
	if version < 2 && (n.Allow != nil || n.Deny != nil || n.HostLoopback || n.Disabled) {
		return fmt.Errorf("network is in version %d, which has none", version)
	}
	rule := func(field, s string) error {
		if s == "" {
			return fmt.Errorf("%s is empty", field)
		}
		return text(field, s, maxText)
	}
	return errors.Join(
		list("network.allow", n.Allow, maxNetRules, rule),
		list("network.deny", n.Deny, maxNetRules, rule),
	)
}

// text checks what may be any text: it must survive a C string and JSON.
func text(field, s string, limit int) error {
	switch {
	case len(s) > limit:
		return fmt.Errorf("%s is %d bytes long, more than %d", field, len(s), limit)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%s has a NUL byte in it", field)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is not UTF-8", field)
	}
	return nil
}

func match(field, s string, form *regexp.Regexp) error {
	if !form.MatchString(s) {
		return fmt.Errorf("%s is %.80q, which does not have the form %s", field, s, form)
	}
	return nil
}

func optional(field, s string, form *regexp.Regexp) error {
	if s == "" {
		return nil
	}
	return match(field, s, form)
}

func oneOf(field, s string, allowed ...string) error {
	if !slices.Contains(allowed, s) {
		return fmt.Errorf("%s is %.80q, not one of %q", field, s, allowed)
	}
	return nil
}

func list(field string, items []string, limit int, check func(field, s string) error) error {
	if len(items) > limit {
		return fmt.Errorf("%s has %d entries, more than %d", field, len(items), limit)
	}
	for i, s := range items {
		if err := check(fmt.Sprintf("%s[%d]", field, i), s); err != nil {
			return err
		}
	}
	return nil
}

// relative checks a path within a bundle.
func relative(field, s string) error {
	if s == "" {
		return nil
	}
	for _, element := range strings.Split(s, "/") {
		if element == "" || element == "." || element == ".." {
			return fmt.Errorf("%s is %.80q, not a plain relative path", field, s)
		}
	}
	return text(field, s, maxPath)
}

func within(field string, n, limit int) error {
	if n < 0 || n > limit {
		return fmt.Errorf("%s is %d, not between 0 and %d", field, n, limit)
	}
	return nil
}
