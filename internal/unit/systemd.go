package unit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bake/internal/service/forward"
	"bake/internal/volume"
)

// SystemdOptions say for which manager a unit is.
type SystemdOptions struct {
	// User is for the manager of a user, systemctl --user, which may confine a
	// service far less.
	User bool
}

// longestLine is LONG_LINE_MAX of systemd, which bounds a setting with its
// continuations, in bytes.
const longestLine = 1 << 20

// watchdog is how long the guest may be deaf until systemd ends the app. Guests of
// emulated machines and of hosts that sleep are slow for some seconds.
const watchdog = time.Minute

// Systemd writes a service of systemd (systemd.service(5)), for version 239 and
// later; what is newer than that, an older one ignores.
func Systemd(a App, o SystemdOptions) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	// As systemd has it of programs, string_is_safe() in its sources.
	if strings.ContainsAny(a.Exe, "\"'\\") || oneLine(a.Exe) != a.Exe {
		return nil, fmt.Errorf("the app's file %q has quotes, backslashes or control characters in its name, and systemd starts no such program: give it another name", a.Exe)
	}
	u := &systemdUnit{app: a}
	u.section("Unit")
	u.set("Description", strings.ReplaceAll(oneLine(a.Title), "%", "%%")+" in a microVM")
	u.set("Documentation", "man:systemd.service(5)")
	if !o.User {
		u.set("Wants", "network-online.target")
		u.set("After", "network-online.target")
	}
	u.restartLimit()
	u.section("Service")
	if err := u.process(); err != nil {
		return nil, err
	}
	if o.User {
		u.userDirectories()
	} else {
		u.directories()
		if err := u.confine(); err != nil {
			return nil, err
		}
	}
	u.confineCalls(o.User)
	u.section("Install")
	if o.User {
		u.set("WantedBy", "default.target")
	} else {
		u.set("WantedBy", "multi-user.target")
	}
	return []byte(u.text.String()), nil
}

// A systemdUnit is a unit file that is being written.
type systemdUnit struct {
	app  App
	text strings.Builder
}

func (u *systemdUnit) section(name string) {
	if u.text.Len() > 0 {
		u.text.WriteByte('\n')
	}
	fmt.Fprintf(&u.text, "[%s]\n", name)
}

// set writes a setting whose value is quoted as its kind needs it already.
func (u *systemdUnit) set(name, value string) { fmt.Fprintf(&u.text, "%s=%s\n", name, value) }

func (u *systemdUnit) comment(lines ...string) {
	for _, line := range lines {
		fmt.Fprintf(&u.text, "# %s\n", line)
	}
}

// process says how the app is started, watched and ended.
func (u *systemdUnit) process() error {
	u.comment("READY=1 comes when the container's command runs, a sign of life as long as the guest answers.")
	u.set("Type", "notify")
	if u.app.InitScript {
		u.comment("The app's init script need not be the process that starts the VM.")
		u.set("NotifyAccess", "all")
	} else {
		u.set("NotifyAccess", "main")
	}
	u.set("WatchdogSec", fmt.Sprint(seconds(watchdog)))
	u.set("TimeoutStartSec", fmt.Sprint(seconds(u.app.BootTimeout+shutdown)))
	u.set("TimeoutStopSec", fmt.Sprint(seconds(u.app.StopTimeout+shutdown)))
	u.comment("SIGTERM is for the app, which asks the container; the VM is not to be ended under it.")
	u.set("KillMode", "mixed")
	u.comment("How a container ends that was asked to.")
	u.set("SuccessExitStatus", fmt.Sprint(u.app.StopStatus))
	u.restart()
	for _, v := range u.app.Volumes {
		if v.Kind == volume.KindShare && v.Create {
			u.comment("The folder of a volume with the flag create, which the service itself may not make.")
			// The prefix is for a command outside of what confines the service.
			u.set("ExecStartPre", "+/bin/mkdir -p -- "+systemdArgument(v.Host))
		}
	}
	start := "ExecStart=" + systemdWord(u.app.Exe)
	for _, arg := range u.app.argv(withoutManaged) {
		start += " \\\n    " + systemdArgument(arg)
	}
	if len(start) >= longestLine {
		return fmt.Errorf("the app's arguments take %d bytes, and systemd reads no more than %d: put what is long into a file of a volume", len(start), longestLine)
	}
	u.text.WriteString(start + "\n")
	return nil
}

// restartLimit belongs into [Unit]. docker's policies know no end but a number
// of restarts; systemd's own default is to give up after five in ten seconds.
func (u *systemdUnit) restartLimit() {
	if r := u.app.Restart; r.OnFailure && r.Max > 0 {
		u.comment(fmt.Sprintf("At most %d restarts in an hour; the first start counts too.", r.Max))
		u.set("StartLimitIntervalSec", "1h")
		u.set("StartLimitBurst", fmt.Sprint(r.Max+1))
	} else if r.Always || r.OnFailure {
		u.set("StartLimitIntervalSec", "0")
	}
}

func (u *systemdUnit) restart() {
	switch r := u.app.Restart; {
	case r.Always:
		u.set("Restart", "always")
	case r.OnFailure:
		u.set("Restart", "on-failure")
	default:
		u.set("Restart", "no")
		return
	}
	u.set("RestartSec", "2")
}

// directories are what the app finds in place of a home. RunBases of package
// platform knows the first, so that root's bake ps shows the instance.
func (u *systemdUnit) directories() {
	u.comment("Sockets, unpacked parts, named volumes and the logs of ended instances.",
		"bake volume shows these volumes with XDG_DATA_HOME=/var/lib/bake.")
	for _, d := range []struct{ setting, specifier, variables string }{
		{"RuntimeDirectory", "%t", "XDG_RUNTIME_DIR"},
		{"CacheDirectory", "%C", "XDG_CACHE_HOME"},
		{"StateDirectory", "%S", "XDG_DATA_HOME XDG_STATE_HOME"},
	} {
		u.set(d.setting, "bake")
		u.set(d.setting+"Mode", "0700")
		for v := range strings.FieldsSeq(d.variables) {
			u.set("Environment", v+"="+d.specifier+"/bake")
		}
	}
	u.comment("Other instances have their sockets there too.")
	u.set("RuntimeDirectoryPreserve", "yes")
}

// userDirectories: a user's service has a home, and the sockets where all of the
// user's instances have them.
func (u *systemdUnit) userDirectories() {
	u.comment("Where all instances of the user have their sockets.")
	u.set("RuntimeDirectory", "bake")
	u.set("RuntimeDirectoryMode", "0700")
	u.set("RuntimeDirectoryPreserve", "yes")
}

// confine takes from a system service what no app needs, and gives it the files
// and devices of its volumes.
func (u *systemdUnit) confine() error {
	u.comment("The file system is read-only and homes are hidden, but for what the app is given.")
	u.set("ProtectSystem", "strict")
	u.set("ProtectHome", "tmpfs")
	u.set("PrivateTmp", "yes")
	if err := u.paths(); err != nil {
		return err
	}
	u.comment("The VM is the only thing that needs a device. Without /dev/kvm it is emulated.")
	u.set("DevicePolicy", "closed")
	u.set("DeviceAllow", "/dev/kvm rw")
	for _, v := range u.app.Volumes {
		if v.Kind == volume.KindImage && strings.HasPrefix(v.Host, "/dev/") {
			access := "rw"
			if v.ReadOnly {
				access = "r"
			}
			u.set("DeviceAllow", systemdWord(v.Host)+" "+access)
		}
	}
	capabilities := u.capabilities()
	if capabilities == "" {
		u.comment("Not even root's rights to other users' files.")
	}
	u.set("CapabilityBoundingSet", capabilities)
	for _, setting := range []string{
		"ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
		"ProtectClock", "ProtectHostname",
	} {
		u.set(setting, "yes")
	}
	u.set("ProtectProc", "invisible")
	u.set("KeyringMode", "private")
	return nil
}

// confineCalls is what takes no rights to set up, so that a user's manager can.
func (u *systemdUnit) confineCalls(user bool) {
	u.set("NoNewPrivileges", "yes")
	u.set("UMask", "0077")
	u.set("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK")
	u.set("RestrictNamespaces", "yes")
	u.set("RestrictRealtime", "yes")
	if !u.shares() {
		u.set("RestrictSUIDSGID", "yes")
	}
	u.set("LockPersonality", "yes")
	u.set("SystemCallArchitectures", "native")
	u.comment("What is denied, and not what is allowed: a list of systemd's would lack the calls of kernels newer than it.")
	u.set("SystemCallFilter", "~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap")
	u.set("SystemCallErrorNumber", "EPERM")
	u.comment("Not MemoryDenyWriteExecute: without KVM, QEMU compiles the guest's code into memory that it then runs.")
	if !user {
		u.comment("Not PrivateDevices, which hides /dev/kvm, and not PrivateUsers, which hides the owners of files in volumes.")
	}
}

// shares says that the app serves writable folders of the host.
func (u *systemdUnit) shares() bool {
	return slices.ContainsFunc(u.app.Volumes, func(v Volume) bool { return v.Kind == volume.KindShare && !v.ReadOnly })
}

// capabilities are those that the flags need (capabilities(7)).
func (u *systemdUnit) capabilities() string {
	var list []string
	if slices.ContainsFunc(u.app.Volumes, func(v Volume) bool { return v.Kind == volume.KindShare }) {
		// A guest's root makes, reads and gives away files of all users there,
		// as it may in a container.
		list = append(list, "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID")
	}
	if slices.ContainsFunc(slices.Concat(u.app.Ports, u.app.Exposed), func(p forward.Port) bool { return p.First != 0 && p.First < 1024 }) {
		list = append(list, "CAP_NET_BIND_SERVICE")
	}
	return strings.Join(list, " ")
}

// hidden are the directories that a service with ProtectHome=tmpfs and
// PrivateTmp=yes sees empty.
var hidden = []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp"}

func isHidden(path string) bool {
	return slices.ContainsFunc(hidden, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
}

// paths opens the files of the host that the app is about.
func (u *systemdUnit) paths() error {
	writable := map[string]bool{}
	var order []string
	need := func(path string, write bool) {
		if _, ok := writable[path]; !ok {
			order = append(order, path)
		}
		writable[path] = writable[path] || write
	}
	need(u.app.Exe, false)
	for _, v := range u.app.Volumes {
		if v.Kind == volume.KindShare || v.Kind == volume.KindImage {
			need(v.Host, !v.ReadOnly)
		}
	}
	for _, path := range u.app.Reads {
		need(path, false)
	}
	for _, path := range u.app.Writes {
		need(path, true)
	}
	for _, path := range order {
		switch {
		case isHidden(path) && strings.Contains(path, ":"):
			return fmt.Errorf("the path %s has a colon, and systemd cannot show such a one to a service that sees no homes: move it to a folder such as /usr/local or /srv", path)
		case isHidden(path) && writable[path]:
			u.set("BindPaths", systemdWord(path))
		case isHidden(path):
			u.set("BindReadOnlyPaths", systemdWord(path))
		case writable[path] && !strings.HasPrefix(path, "/dev/"):
			u.set("ReadWritePaths", systemdWord(path))
		}
	}
	return nil
}
