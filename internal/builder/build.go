package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"bake/internal/image"
	"bake/internal/kernel"
	"bake/internal/payload"
	"bake/internal/policy"
	"bake/internal/rootfs"
)

// Options say what to build. Empty fields are found or decided by Build.
type Options struct {
	// Source is what package image opens, or empty with Rootfs.
	Source string
	// Rootfs is a ready EROFS, squashfs or ext4 file, and wins over Source.
	Rootfs string
	// Output is the app's path.
	Output string

	// OS and Arch are the target's, in Go's words.
	OS, Arch string
	// Input is the carrier.
	Input string
	// Kernel is a kernel image or bundle.
	Kernel string
	Initrd string
	// VMM is what to embed: auto, firecracker, qemu or none.
	VMM string
	// Firecracker is the executable for VMM firecracker, and makes auto mean
	// it.
	Firecracker string
	InitScript  string

	Entrypoint *string
	Args       []string
	Env        []string
	Cwd        string
	UID, GID   *uint32
	// Defaults are embedded for the app's own flags.
	Defaults payload.Defaults
	// Network is embedded, and the app's flags only narrow it.
	Network policy.Rules

	// BuildTime is stored in the filesystem's superblock, in seconds since
	// 1970; it is not the clock's, so that the same inputs give the same bytes.
	BuildTime int64
	// Compress makes a smaller rootfs that takes longer to make and to read.
	Compress bool

	Artifacts Artifacts
	// Version is bake's own.
	Version string
	// Progress receives one line for each step.
	Progress func(string)
}

// A Result says what was built.
type Result struct {
	Path     string
	Size     int64
	Manifest *payload.Manifest
}

// Build makes an app. When it fails, nothing is left at o.Output that was not
// there before.
func Build(ctx context.Context, o Options) (*Result, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	p, err := collect(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer p.close()
	src, err := openImage(ctx, o)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return p.build(ctx, src, o)
}

// build makes the app of an opened image.
func (p *parts) build(ctx context.Context, src *image.Image, o Options) (*Result, error) {
	work, err := os.MkdirTemp(filepath.Dir(o.Output), ".bake-build-")
	if err != nil {
		return nil, fmt.Errorf("make a working folder beside %s: %w", o.Output, err)
	}
	defer os.RemoveAll(work)
	fs, err := makeRootfs(ctx, src, work, o)
	if err != nil {
		return nil, err
	}
	return p.write(ctx, src, fs, o)
}

func (o *Options) complete() error {
	if o.OS == "" {
		o.OS = "linux"
	}
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.OS != "linux" {
		return fmt.Errorf("bake cannot build apps for %s yet: the carrier format of Linux, ELF, is the only one it writes", o.OS)
	}
	// The app would not start, and whoever has it could not help that.
	_, err := policy.New(o.Network)
	return err
}

// parts are what an app is made of, but for the image.
type parts struct {
	carrier string
	kernel  *kernel.Bundle
	initrd  payload.Source
	vmm     *vmm
	script  []byte
}

func (p *parts) close() {
	if p.vmm != nil {
		p.vmm.close()
	}
}

// collect finds the parts, before anything slow is begun.
func collect(ctx context.Context, o *Options) (*parts, error) {
	p := &parts{carrier: o.Input}
	var err error
	if p.carrier == "" {
		if p.carrier, err = o.Artifacts.Carrier(o.OS, o.Arch); err != nil {
			return nil, err
		}
	}
	if o.Kernel != "" {
		p.kernel, err = kernel.Open(o.Kernel)
	} else {
		p.kernel, err = o.Artifacts.Kernels.Find(o.Arch)
	}
	if err != nil {
		return nil, err
	}
	if p.kernel.Arch != o.Arch {
		return nil, fmt.Errorf("kernel %s is for %s and the app for %s: give one for it with --kernel", p.kernel.Version, p.kernel.Arch, o.Arch)
	}
	if o.Initrd == "" {
		if o.Initrd, err = o.Artifacts.Initrd(o.Arch); err != nil {
			return nil, err
		}
	}
	if p.initrd, err = initrdSource(o.Initrd, p.kernel); err != nil {
		return nil, err
	}
	if o.InitScript != "" {
		if p.script, err = os.ReadFile(o.InitScript); err != nil {
			return nil, fmt.Errorf("read the init script: %w", err)
		}
	}
	p.vmm, err = openVMM(ctx, *o)
	return p, err
}

func openImage(ctx context.Context, o Options) (*image.Image, error) {
	source := o.Source
	switch {
	case o.Rootfs != "" && source != "":
		return nil, errors.New("there is a SOURCE and a --rootfs: an app has one root filesystem, give one of them")
	case o.Rootfs != "":
		source = o.Rootfs
	case source == "":
		return nil, errors.New("there is nothing to build from: give a SOURCE (an image reference, a tar, an OCI layout, a folder) or --rootfs")
	}
	return image.Open(ctx, source, image.Options{Arch: o.Arch, Progress: o.Progress})
}

// A filesystem is the root filesystem's file and type.
type filesystem struct {
	path, kind string
}

// treeOf merges the image's layers, or looks at its folder.
func treeOf(ctx context.Context, src *image.Image, temp string, o Options) (*rootfs.Tree, error) {
	tree := rootfs.NewTree(rootfs.Options{TempDir: temp, Warn: o.Progress})
	err := fill(ctx, tree, src)
	if err != nil {
		tree.Close()
		return nil, err
	}
	return tree, nil
}

func fill(ctx context.Context, tree *rootfs.Tree, src *image.Image) error {
	if src.Dir != "" {
		return tree.AddDir(ctx, src.Dir)
	}
	for _, l := range src.Layers {
		r, err := l.Open(ctx)
		if err != nil {
			return err
		}
		// A layer that lies in a file is read from there later: the image
		// closes it.
		err = tree.AddLayer(ctx, l.Name, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// makeRootfs writes the root filesystem into the folder work, or takes the
// ready one.
func makeRootfs(ctx context.Context, src *image.Image, work string, o Options) (fs filesystem, err error) {
	if src.Ready != nil {
		return filesystem{src.Ready.Path, src.Ready.Type}, nil
	}
	tree, err := treeOf(ctx, src, work, o)
	if err != nil {
		return fs, err
	}
	defer tree.Close()
	fs = filesystem{filepath.Join(work, "rootfs"), "erofs"}
	f, err := os.OpenFile(fs.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fs, fmt.Errorf("make the root filesystem: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if o.Compress {
		fs.kind = "squashfs"
		o.Progress("compressing the root filesystem (squashfs, zstd)")
		_, err = rootfs.WriteSquashFS(ctx, f, tree, rootfs.SquashFSOptions{BuildTime: o.BuildTime})
		return fs, err
	}
	o.Progress("writing the root filesystem (erofs)")
	_, err = rootfs.WriteEROFS(ctx, f, tree, rootfs.EROFSOptions{BuildTime: o.BuildTime})
	return fs, err
}

// write puts everything into a copy of the carrier.
func (p *parts) write(ctx context.Context, src *image.Image, fs filesystem, o Options) (*Result, error) {
	proc, err := process(src.Config, o)
	if err != nil {
		return nil, err
	}
	m := &payload.Manifest{
		Version: payload.ManifestVersion, BakeVersion: o.Version,
		Target:  payload.Target{OS: o.OS, Arch: o.Arch},
		Image:   payload.Image{Ref: src.Ref, Digest: src.Digest},
		Rootfs:  payload.Rootfs{Type: fs.kind},
		Process: proc,
		Kernel: payload.Kernel{
			Version: p.kernel.Version, Source: p.kernel.Source, Arch: p.kernel.Arch,
			SHA256: p.kernel.ImageSHA256, Modules: len(p.kernel.Modules) > 0,
		},
		Defaults: o.Defaults,
		Network: payload.Network{
			Allow: o.Network.Allow, Deny: o.Network.Deny,
			HostLoopback: o.Network.HostLoopback, Disabled: o.Network.Disabled,
		},
	}
	if p.vmm != nil {
		m.VMM = p.vmm.manifest
	}
	encoded, err := payload.EncodeManifest(m)
	if err != nil {
		return nil, err
	}
	rootfsSource, err := payload.FileSource(payload.PartRootfs, fs.path)
	if err != nil {
		return nil, err
	}
	kernelSource, err := kernelSource(p.kernel)
	if err != nil {
		return nil, err
	}
	sources := []payload.Source{
		payload.BytesSource(payload.PartManifest, encoded), kernelSource, p.initrd, rootfsSource,
	}
	if p.vmm != nil {
		sources = append(sources, p.vmm.source)
	}
	if p.script != nil {
		sources = append(sources, payload.BytesSource(payload.PartInitScript, p.script))
	}
	o.Progress("writing " + o.Output)
	if err := create(ctx, o.Output, p.carrier, sources); err != nil {
		return nil, err
	}
	info, err := os.Stat(o.Output)
	if err != nil {
		return nil, fmt.Errorf("look at what was built: %w", err)
	}
	return &Result{Path: o.Output, Size: info.Size(), Manifest: m}, nil
}

func kernelSource(k *kernel.Bundle) (payload.Source, error) {
	r, size, err := k.OpenImage()
	if err != nil {
		return payload.Source{}, err
	}
	r.Close()
	return payload.Source{
		Name: payload.PartKernel, Size: size,
		Open: func() (io.ReadCloser, error) {
			r, _, err := k.OpenImage()
			return r, err
		},
	}, nil
}

func create(ctx context.Context, output, carrier string, sources []payload.Source) error {
	f, err := os.Open(carrier)
	if err != nil {
		return fmt.Errorf("open the carrier: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open the carrier: %w", err)
	}
	return payload.Create(ctx, output, io.NewSectionReader(f, 0, info.Size()), sources)
}
