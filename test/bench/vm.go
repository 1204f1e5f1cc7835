//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cavaliergopher/cpio"
	"golang.org/x/sys/unix"

	"bake/internal/vhostuser"
	"bake/internal/vsock"
)

// A machine boots what an app boots, with another initrd and more devices: the
// same QEMU with the same arguments, kernel, disks and vsock back end.
type machine struct {
	plan   *plan
	app    string // the app, which is the first disk
	kernel string // a file with the kernel alone
	initrd string
	extra  []string // more arguments
	dir    string   // of the VM's sockets and its second disk
}

// newMachine takes the parts of app that QEMU wants as files.
func (b *bench) newMachine(ctx context.Context, app, name, init string) (*machine, error) {
	m := &machine{app: app, dir: filepath.Join(b.dir, name)}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if m.plan, err = planOf(ctx, app); err != nil {
		return nil, err
	}
	m.kernel = filepath.Join(m.dir, "kernel")
	if _, err := run(ctx, nil, filepath.Join(b.bin, "bake"), "extract", app, "kernel", "-o", m.kernel); err != nil {
		return nil, err
	}
	m.initrd = filepath.Join(m.dir, "initrd")
	return m, writeInitrd(m.initrd, init)
}

// writeInitrd packs one program as /init, with the console that the kernel
// opens for it.
func writeInitrd(path, init string) error {
	program, err := os.ReadFile(init)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	w := cpio.NewWriter(&archive)
	for _, f := range []struct {
		header cpio.Header
		data   []byte
	}{
		{cpio.Header{Name: "dev", Mode: cpio.TypeDir | 0o755, Links: 2}, nil},
		{cpio.Header{Name: "dev/console", Mode: cpio.TypeChar | 0o600, Links: 1, DeviceID: int(unix.Mkdev(5, 1))}, nil},
		{cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Links: 1, Size: int64(len(program))}, program},
	} {
		if err := w.WriteHeader(&f.header); err != nil {
			return fmt.Errorf("pack an initrd: %w", err)
		}
		if _, err := w.Write(f.data); err != nil {
			return fmt.Errorf("pack an initrd: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("pack an initrd: %w", err)
	}
	return os.WriteFile(path, archive.Bytes(), 0o600)
}

// A vm is a running machine.
type vm struct {
	vsock vsock.Hybrid

	cmd     *exec.Cmd
	console io.ReadCloser // for the caller to read until its end
	stderr  bytes.Buffer
	device  *vhostuser.Device
	served  chan error
}

// open makes the files that the plan's arguments name by number: kernel,
// initrd, vsock, root filesystem, ephemeral disk.
func (m *machine) open(peer *os.File) (files []*os.File, err error) {
	add := func(f *os.File, err error) error {
		if err == nil {
			files = append(files, f)
		}
		return err
	}
	err = errors.Join(add(os.Open(m.kernel)), add(os.Open(m.initrd)), add(peer, nil), add(os.Open(m.app)),
		add(os.OpenFile(filepath.Join(m.dir, "ephemeral"), os.O_RDWR|os.O_CREATE, 0o600)))
	if err == nil {
		err = files[len(files)-1].Truncate(m.plan.Disks[1].Size)
	}
	return files, err
}

// start boots. The caller calls wait.
func (m *machine) start(ctx context.Context) (*vm, error) {
	v := &vm{vsock: vsock.Hybrid{Path: filepath.Join(m.dir, "v")}, served: make(chan error, 1)}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	mine, peer := os.NewFile(uintptr(pair[0]), "vhost-user"), os.NewFile(uintptr(pair[1]), "vhost-user")
	v.device, err = vhostuser.New(vhostuser.Config{CID: 3, Path: v.vsock.Path})
	if err != nil {
		return nil, errors.Join(err, mine.Close(), peer.Close())
	}
	files, err := m.open(peer)
	defer closeFiles(files)
	if err != nil {
		return nil, errors.Join(err, mine.Close(), v.device.Close())
	}
	v.cmd = exec.CommandContext(ctx, m.plan.Command[0], append(append([]string{}, m.plan.Command[1:]...), m.extra...)...)
	v.cmd.ExtraFiles = files
	v.cmd.Stderr = &v.stderr
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if v.console, err = v.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	go func() { v.served <- v.device.Serve(context.Background(), mine) }()
	if err := v.cmd.Start(); err != nil {
		closeFiles(files)
		return nil, errors.Join(err, <-v.served, v.device.Close())
	}
	return v, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// wait waits for the end of the VM. The console must have been read.
func (v *vm) wait() error {
	err := v.cmd.Wait()
	if err != nil {
		err = fmt.Errorf("QEMU: %w\n%s", err, strings.TrimSpace(v.stderr.String()))
	}
	return errors.Join(err, <-v.served, v.device.Close())
}
