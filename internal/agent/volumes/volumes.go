//go:build linux

package volumes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"bake/internal/agent/mounts"
	"bake/internal/wire"
)

// A Config is what volumes need of the guest.
type Config struct {
	// Dir is where they are mounted, each in a directory named by its ID.
	Dir string
	// Rootfs is the container's root filesystem, without volumes in it.
	Rootfs string
	// Dial connects to the host's file server (wire.PortFiles).
	Dial func(context.Context) (Conn, error)
	// Progress is called while something takes long but goes on.
	Progress func()
}

// Volumes are those of the guest.
type Volumes struct {
	cfg      Config
	mounted  []*volume
	notifier *notifier
}

// A volume is one that is mounted.
type volume struct {
	wire.Volume
	dir string // its mount point; empty for a tmpfs, which runc mounts
	// source is what the container gets of it.
	source string
	// socket is that of a 9P connection, kept to end it by, or -1. The
	// filesystem has a reference of its own.
	socket int
}

// New has no volumes yet.
func New(cfg Config) *Volumes { return &Volumes{cfg: cfg} }

// Mount mounts volumes, which wire.CheckVolumes has accepted. Whatever it
// returns, Close has to be called.
func (v *Volumes) Mount(ctx context.Context, list []wire.Volume) error {
	for i := range list {
		if err := v.mountOne(ctx, list[i]); err != nil {
			return fmt.Errorf("the volume for %s: %w", list[i].Target, err)
		}
	}
	if err := v.checkPlaces(); err != nil {
		return err
	}
	v.notifier = newNotifier(v.mounted, v.cfg.Progress)
	return nil
}

func (v *Volumes) mountOne(ctx context.Context, w wire.Volume) error {
	m := &volume{Volume: w, socket: -1}
	if w.Kind == wire.VolumeTmpfs {
		v.mounted = append(v.mounted, m)
		return nil
	}
	if err := checkKernel(&w); err != nil {
		return err
	}
	m.dir = filepath.Join(v.cfg.Dir, w.ID)
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return fmt.Errorf("make its mount point in the guest: %w", err)
	}
	var err error
	switch w.Kind {
	case wire.Volume9P:
		err = m.mount9P(ctx, v.cfg.Dial)
	case wire.VolumeVirtioFS:
		err = m.mountVirtioFS(ctx)
	case wire.VolumeDisk:
		err = m.mountDisk(ctx)
	default:
		err = fmt.Errorf("this agent does not know its kind, %.32q", w.Kind)
	}
	if err != nil {
		return err
	}
	v.mounted = append(v.mounted, m)
	return m.findSource(v.cfg)
}

// checkKernel says what to do where the kernel lacks the filesystem.
func checkKernel(w *wire.Volume) error {
	fstype, advice := "", ""
	switch w.Kind {
	case wire.Volume9P:
		fstype, advice = "9p", "build the app with bake's own kernel, or use --volume-mode virtiofs"
	case wire.VolumeVirtioFS:
		fstype, advice = "virtiofs", "build the app with bake's own kernel, or use --volume-mode 9p"
	default:
		fstype, advice = w.Type, "build the app with bake's own kernel"
	}
	if mounts.Known(fstype) {
		return nil
	}
	return fmt.Errorf("the kernel %s in this app does not know the filesystem %s: %s", kernelRelease(), fstype, advice)
}

func kernelRelease() string {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return ""
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// findSource finds or makes what the container gets of a mounted filesystem.
func (m *volume) findSource(cfg Config) error {
	m.source = m.dir
	switch {
	case m.File:
		m.source = filepath.Join(m.dir, wire.VolumeFile)
		fi, err := os.Lstat(m.source)
		if err != nil {
			return fmt.Errorf("look for its file: %w", err)
		}
		if fi.IsDir() || fi.Mode()&os.ModeSymlink != 0 {
			return fmt.Errorf("it is said to be a file, and the host has %v there", fi.Mode())
		}
	case m.Subdir != "":
		m.source = filepath.Join(m.dir, m.Subdir)
		return m.prepareSubdir(cfg)
	}
	return nil
}

// flags are those of mount(2) for the filesystem itself.
func (m *volume) flags() uintptr {
	var flags uintptr
	// Notices of changes are made by setting times, which the mount that they
	// are set through has to allow; the container's own is read-only all the same.
	if m.ReadOnly && !m.Notify {
		flags |= unix.MS_RDONLY
	}
	for _, f := range []struct {
		set  bool
		flag uintptr
	}{{m.NoSUID, unix.MS_NOSUID}, {m.NoDev, unix.MS_NODEV}, {m.NoExec, unix.MS_NOEXEC}} {
		if f.set {
			flags |= f.flag
		}
	}
	return flags
}

// Mounts are what runc mounts in the container, in this order (config.md of the
// OCI runtime specification).
func (v *Volumes) Mounts() []specs.Mount {
	var list []specs.Mount
	for _, m := range v.mounted {
		list = append(list, m.mount())
	}
	return list
}

func (m *volume) mount() specs.Mount {
	options := []string{}
	s := specs.Mount{Destination: m.Target, Type: "bind", Source: m.source}
	if m.Kind == wire.VolumeTmpfs {
		s.Type, s.Source = "tmpfs", "tmpfs"
		mode := m.Mode
		if mode == 0 {
			mode = 0o1777
		}
		options = append(options, fmt.Sprintf("mode=%04o", mode))
		if m.Size > 0 {
			options = append(options, fmt.Sprintf("size=%d", m.Size))
		}
		if m.UID != 0 || m.GID != 0 {
			options = append(options, fmt.Sprintf("uid=%d", m.UID), fmt.Sprintf("gid=%d", m.GID))
		}
	} else {
		options = append(options, "bind", "rprivate")
	}
	access := "rw"
	if m.ReadOnly {
		access = "ro"
	}
	options = append(options, access)
	for _, o := range []struct {
		set  bool
		name string
	}{{m.NoSUID, "nosuid"}, {m.NoDev, "nodev"}, {m.NoExec, "noexec"}} {
		if o.set {
			options = append(options, o.name)
		}
	}
	s.Options = options
	return s
}
