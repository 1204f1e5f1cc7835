//go:build linux

package container

import (
	"math"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"bake/internal/agent/ctrinit"
	"bake/internal/wire"
)

// A Layout says where in the guest the parts of the container are.
type Layout struct {
	// Rootfs is the writable root filesystem.
	Rootfs string
	// Hosts, Hostname and ResolvConf become the container's /etc/hosts,
	// /etc/hostname and /etc/resolv.conf.
	Hosts, Hostname, ResolvConf string
	// Filesystem says whether the guest's kernel knows a filesystem type.
	Filesystem func(name string) bool
	// Device says whether the guest has a character device, such as /dev/fuse.
	Device func(path string) bool
}

// cgroupPath is the container's cgroup, relative to the cgroup2 mount.
const cgroupPath = "/container"

// Cgroup is the directory of the container's cgroup.
const Cgroup = cgroupRoot + cgroupPath

// newSpec is the OCI runtime configuration (config.md and config-linux.md of
// the specification). Its process is the init, which finds the command itself.
func newSpec(cfg Config, a Account) *specs.Spec {
	l := cfg.Layout
	return &specs.Spec{
		Version:  specs.Version,
		Hostname: cfg.Hostname,
		Root:     &specs.Root{Path: l.Rootfs},
		Process:  process(cfg.Process, a),
		Mounts:   mounts(l, cfg.Volumes),
		Linux: &specs.Linux{
			CgroupsPath: cgroupPath,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.CgroupNamespace},
			},
			Devices: devices(l),
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}},
			},
		},
	}
}

func process(p wire.Process, a Account) *specs.Process {
	cwd := p.Cwd
	if !strings.HasPrefix(cwd, "/") {
		cwd = "/" + cwd
	}
	umask := uint32(0o022)
	killFirst := 0
	// As Docker does: with its own group in the list too, a process that gives up
	// its group ID does not get past what is denied to that group.
	groups := append([]uint32{a.GID}, slices.DeleteFunc(slices.Clone(a.Groups), func(g uint32) bool { return g == a.GID })...)
	sp := &specs.Process{
		Terminal: p.Terminal,
		User:     specs.User{UID: a.UID, GID: a.GID, AdditionalGids: groups, Umask: &umask},
		Args:     []string{ctrinit.Executable},
		Env:      []string{"PATH=" + defaultPath, "HOME=" + a.Home},
		Cwd:      path.Clean(cwd),
		Capabilities: &specs.LinuxCapabilities{
			Bounding:  capabilities,
			Effective: capabilities,
			Permitted: capabilities,
		},
		Rlimits:     rlimits,
		OOMScoreAdj: &killFirst,
	}
	if p.Terminal && p.Rows > 0 && p.Cols > 0 {
		sp.ConsoleSize = &specs.Box{Height: uint(p.Rows), Width: uint(p.Cols)}
	}
	return sp
}

// rlimits are the limits that servers ask for in vain elsewhere. The soft
// number of files stays at what programs that close every possible descriptor
// can bear.
var rlimits = []specs.POSIXRlimit{
	{Type: "RLIMIT_NOFILE", Soft: 65536, Hard: 1 << 20},
	{Type: "RLIMIT_NPROC", Soft: math.MaxUint64, Hard: math.MaxUint64},
	{Type: "RLIMIT_MEMLOCK", Soft: math.MaxUint64, Hard: math.MaxUint64},
	{Type: "RLIMIT_CORE", Soft: 0, Hard: math.MaxUint64},
}

// mounts are those of config-linux.md's "default filesystems", the files that
// Docker provides, and volumes. The image's own /tmp stays as it is.
func mounts(l Layout, volumes []specs.Mount) []specs.Mount {
	m := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime"}},
	}
	if l.Filesystem("mqueue") {
		m = append(m, specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}})
	}
	return append(m, withVolumes(volumes,
		specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: l.Hosts, Options: []string{"bind", "rprivate", "rw"}},
		specs.Mount{Destination: "/etc/hostname", Type: "bind", Source: l.Hostname, Options: []string{"bind", "rprivate", "rw"}},
		// Where the image has a symbolic link, its target is what is mounted
		// over, and made if it does not exist.
		specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: l.ResolvConf, Options: []string{"bind", "rprivate", "rw"}},
	)...)
}

// withVolumes are files and volumes in the order of mounting: what is inside a
// volume, such as the files of one at /etc, comes after it. A file whose place a
// volume takes is left out.
func withVolumes(volumes []specs.Mount, files ...specs.Mount) []specs.Mount {
	files = slices.DeleteFunc(files, func(f specs.Mount) bool {
		return slices.ContainsFunc(volumes, func(v specs.Mount) bool { return v.Destination == f.Destination })
	})
	all := append(files, volumes...)
	slices.SortStableFunc(all, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return all
}

// devices are what a program may expect beyond runc's own list (null, zero,
// full, random, urandom, tty); numbers from admin-guide/devices.txt.
func devices(l Layout) []specs.LinuxDevice {
	mode := [...]struct {
		path         string
		major, minor int64
	}{
		{"/dev/fuse", 10, 229},
		{"/dev/net/tun", 10, 200},
	}
	var d []specs.LinuxDevice
	for _, m := range mode {
		if l.Device(m.path) {
			perm := fs0666
			d = append(d, specs.LinuxDevice{Path: m.path, Type: "c", Major: m.major, Minor: m.minor, FileMode: &perm})
		}
	}
	return d
}
