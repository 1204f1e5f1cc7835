package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"

	"bake/internal/hypervisor"
	"bake/internal/service/files"
	"bake/internal/volume"
	"bake/internal/wire"
)

// preferVirtioFS is how a share goes where both ways are open. virtiofs keeps
// pages and names in the guest as long as nobody says otherwise, and moves data
// without a stream in between.
const preferVirtioFS = true

const (
	// defaultCache is that of 9P: files are as the host has them at each open,
	// and a shared writable mapping works, which sqlite's WAL needs. With "none"
	// it does not (Linux, fs/9p/vfs_file.c).
	defaultCache = wire.CacheMmap
	// msize is the longest 9P message in bytes. The guest's kernel wants such
	// a piece of memory in one, so more would not always be had.
	msize = 256 << 10
)

// The values of --volume-mode.
const (
	VolumeModeAuto     = "auto"
	VolumeMode9P       = wire.Volume9P
	VolumeModeVirtioFS = wire.VolumeVirtioFS
)

// A plannedVolume is one volume of the guest; the manifest has the same at the
// same index.
type plannedVolume struct {
	volume.Spec
	// disk is the index in config.Disks, of an image or a named volume.
	disk int
	// share is the index in config.Shares, or -1 for one that goes by 9P.
	share int
}

// addVolumes plans the volumes: what the host has is looked at, made where
// that was asked for, and opened later.
func (p *plan) addVolumes(specs []volume.Spec, caps hypervisor.Capabilities) error {
	if len(specs) == 0 {
		return nil
	}
	if len(specs) > wire.MaxVolumes {
		return fmt.Errorf("%d volumes are more than the %d that a microVM can have", len(specs), wire.MaxVolumes)
	}
	// A folder that is not known is an error only of paths that need it.
	dir, _ := os.Getwd()
	resolved := make([]volume.Spec, len(specs))
	for i, s := range specs {
		if err := s.Resolve(dir, os.Getenv("HOME")); err != nil {
			return err
		}
		resolved[i] = s
	}
	sorted, err := volume.Sort(resolved)
	if err != nil {
		return err
	}
	// Disks first: they have no other way.
	disks := len(p.config.Disks)
	for _, s := range sorted {
		if s.Kind == volume.KindImage || s.Kind == volume.KindNamed {
			disks++
		}
	}
	if disks > caps.MaxDisks {
		return fmt.Errorf("%d disk images and named volumes are more than this hypervisor takes: %d is the most", disks-len(p.config.Disks), caps.MaxDisks-len(p.config.Disks))
	}
	for i, s := range sorted {
		v := wire.Volume{
			ID: strconv.Itoa(i), Target: s.Target,
			ReadOnly: s.ReadOnly, NoSUID: s.NoSUID, NoDev: s.NoDev, NoExec: s.NoExec,
		}
		planned := plannedVolume{Spec: s, share: -1}
		switch s.Kind {
		case volume.KindTmpfs:
			v.Kind, v.Size, v.Mode = wire.VolumeTmpfs, s.Size, s.Perm
			if s.UID != nil {
				v.UID = *s.UID
			}
			if s.GID != nil {
				v.GID = *s.GID
			}
		case volume.KindImage, volume.KindNamed:
			planned.disk = len(p.config.Disks)
			v.Kind, v.Type, v.Device = wire.VolumeDisk, "ext4", diskDevice(planned.disk)
			name := s.Host
			if s.Kind == volume.KindNamed {
				name, v.Subdir, v.CopyUp = s.Name, volume.Subdir, !s.NoCopy && !s.ReadOnly
			}
			p.config.Disks = append(p.config.Disks, hypervisor.Disk{
				Resource: hypervisor.Resource{Name: "volume " + name, Size: -1}, ReadOnly: s.ReadOnly, Durable: true,
			})
		default:
			v.File, v.Notify = s.File, s.Notify
			virtiofs, err := goesByVirtioFS(s, caps, disks+len(p.config.Shares))
			if err != nil {
				return err
			}
			if !virtiofs {
				v.Kind, v.Cache, v.MSize = wire.Volume9P, s.Cache, msize
				if v.Cache == "" {
					v.Cache = defaultCache
				}
				// The guest holds the only inode for good, and Linux 6.12 learns
				// of a file that the host has cut by a stat(2) alone: until then
				// it reads on at the old end, for ever (fs/netfs/read_collect.c),
				// without the patch that bake's own kernel has, and appends there
				// with it. The agent makes one at each change.
				v.Notify = v.Notify || s.File && runtime.GOOS == "linux"
				planned.Notify = v.Notify
				break
			}
			v.Kind = wire.VolumeVirtioFS
			planned.share = len(p.config.Shares)
			p.config.Shares = append(p.config.Shares, hypervisor.Share{Tag: v.Tag(), ReadOnly: s.ReadOnly})
		}
		p.volumes = append(p.volumes, planned)
		p.manifest.Volumes = append(p.manifest.Volumes, v)
	}
	return wire.CheckVolumes(p.manifest.Volumes)
}

// goesByVirtioFS says how a share goes. devices is how many disks and shares
// the VM has besides.
func goesByVirtioFS(s volume.Spec, caps hypervisor.Capabilities, devices int) (bool, error) {
	switch s.Mode {
	case VolumeMode9P:
		return false, nil
	case VolumeModeVirtioFS:
		switch {
		case !caps.VhostUserFS:
			return false, fmt.Errorf("the volume %s cannot go by virtiofs: this hypervisor has no vhost-user-fs device; leave --volume-mode out", s.Host)
		case devices >= caps.MaxDisks:
			return false, fmt.Errorf("the volume %s cannot go by virtiofs: this hypervisor takes %d disks and such shares together; leave --volume-mode out", s.Host, caps.MaxDisks)
		}
		return true, nil
	}
	return preferVirtioFS && caps.VhostUserFS && devices < caps.MaxDisks, nil
}

// diskDevice is the guest's name of a disk, as Linux gives them
// (drivers/block/virtio_blk.c, virtblk_name_format).
func diskDevice(i int) string {
	name := ""
	for ; i >= 0; i = i/26 - 1 {
		name = string(rune('a'+i%26)) + name
	}
	return "/dev/vd" + name
}

// volumes are the opened volumes of one boot.
type volumes struct {
	files  []io.Closer // images and named volumes, locked as long as they are open
	ends   []io.Closer // the hypervisor's ends of vhost-user sockets
	server *files.Server
	// virtiofs says that a share goes that way.
	virtiofs bool
}

// openDisks opens and locks the images and named volumes with open, and puts
// them into the plan.
func (v *volumes) openDisks(pl *plan, open func(volume.Spec) (*os.File, error)) error {
	for _, p := range pl.volumes {
		if p.Kind != volume.KindImage && p.Kind != volume.KindNamed {
			continue
		}
		f, err := open(p.Spec)
		if err != nil {
			return err
		}
		v.files = append(v.files, f)
		pl.config.Disks[p.disk].Resource.File = f
	}
	return nil
}

// openShares opens the shared folders and files, and starts the process that
// serves them, exe, if there are any. It puts the sockets of those that go by
// virtiofs into the plan; started says when they have been taken over.
func (v *volumes) openShares(ctx context.Context, pl *plan, exe string, o files.Options) error {
	var shared []files.Volume
	defer func() {
		for _, s := range shared {
			s.Root.Close()
			if s.Socket != nil {
				s.Socket.Close()
			}
		}
	}()
	for i, p := range pl.volumes {
		if p.Kind != volume.KindShare {
			continue
		}
		root, err := openShared(p.Host)
		if err != nil {
			return fmt.Errorf("open the volume %s: %w", p.Host, err)
		}
		s := files.Volume{
			ID: pl.manifest.Volumes[i].ID, Root: root, Path: p.Host,
			ReadOnly: p.ReadOnly, File: p.File, Notify: p.Notify, UID: p.UID, GID: p.GID, Cache: p.Cache,
		}
		shared = append(shared, s)
		if p.share < 0 {
			continue
		}
		near, far, err := files.SocketPair()
		if err != nil {
			return fmt.Errorf("connect the volume %s: %w", p.Host, err)
		}
		shared[len(shared)-1].Socket = near
		v.virtiofs = true
		v.ends = append(v.ends, far)
		pl.config.Shares[p.share].Socket = far
	}
	if len(shared) == 0 {
		return nil
	}
	if exe == "" {
		var err error
		if exe, err = files.Self(); err != nil {
			return err
		}
	}
	var err error
	v.server, err = files.Start(ctx, exe, shared, o)
	return err
}

// showShares is openShares for a VM that is only described: nobody serves the
// sockets.
func (v *volumes) showShares(pl *plan) error {
	for i := range pl.config.Shares {
		near, far, err := files.SocketPair()
		if err != nil {
			return err
		}
		near.Close()
		v.ends = append(v.ends, far)
		pl.config.Shares[i].Socket = far
	}
	return nil
}

// ready waits until the shares are served.
func (v *volumes) ready(ctx context.Context) error {
	if v.server == nil {
		return nil
	}
	return v.server.Ready(ctx)
}

// started is called when the VM has what it needs: what it has now hangs up
// when it ends.
func (v *volumes) started() {
	for _, end := range v.ends {
		end.Close()
	}
	v.ends = nil
}

func (v *volumes) close() error {
	v.started()
	var errs []error
	if v.server != nil {
		errs = append(errs, v.server.Close())
	}
	for _, f := range v.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// serve serves the shares until ctx ends, and says so if that ends before.
func (v *volumes) serve(ctx context.Context, wg *sync.WaitGroup, s *supervisor) error {
	if v.server == nil {
		return nil
	}
	wg.Go(func() {
		select {
		case <-v.server.Done():
			switch {
			case ctx.Err() != nil:
			case v.virtiofs:
				// QEMU has no way to give the device another server, and who
				// uses it in the guest would wait for ever, deaf to SIGKILL.
				s.lost <- fmt.Errorf("%w: the VM was ended, as its volumes are gone for good", v.server.Err())
			default:
				warn(s.stderr, "%v: files in shared volumes give I/O errors in the guest from now on", v.server.Err())
			}
		case <-ctx.Done():
		}
	})
	return s.listen(ctx, wg, wire.PortFiles, func(ln net.Listener) error {
		if err := v.server.Serve(ctx, ln); !errors.Is(err, files.ErrGone) {
			return err
		}
		return nil // it is said already
	})
}

// changed tells the guest of changes on the host. What happens before the
// container runs is nobody's.
func (s *supervisor) changed(c files.Change) {
	select {
	case <-s.running:
		s.send(wire.HostMessage{Type: wire.HostVolume, Volume: c.Volume, Path: c.Path, Op: c.Op})
	default:
	}
}
