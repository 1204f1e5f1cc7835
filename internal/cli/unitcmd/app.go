package unitcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/app"
	"bake/internal/cli/runflags"
	"bake/internal/payload"
	"bake/internal/service/forward"
	"bake/internal/unit"
	"bake/internal/volume"
	"bake/internal/wire"
)

// app is what the unit is to run: the flags as they were given, with all in them
// that depends on where and by whom the verb is called replaced by what it is now.
func (v *verb) app(img *app.Image, args []string) (unit.App, error) {
	fs := v.cmd.Flags()
	o, err := v.flags.Options(args)
	if err != nil {
		return unit.App{}, err
	}
	exe, err := os.Executable()
	if err != nil {
		return unit.App{}, fmt.Errorf("find the app's own file: %w", err)
	}
	if _, err := os.Stat(exe); err != nil {
		return unit.App{}, fmt.Errorf("the app's own file is gone, and the unit would name it: %w", err)
	}
	a := unit.App{
		Exe: exe, Title: img.Manifest.Image.Ref, Name: filepath.Base(exe), Command: args,
		StopTimeout: o.StopTimeout, BootTimeout: o.BootTimeout, Restart: restart(fs.Changed("restart"), o.Restart),
		StopStatus: 128 + stopSignal(img.Manifest.Process.StopSignal),
		Ports:      o.Publish, MemoryMiB: o.MemoryMiB, CPUs: o.CPUs,
		Health: health(app.Health(img.Manifest.Process.Healthcheck, o.Health)),
	}
	if a.Title == "" {
		a.Title = a.Name
	}
	if o.Name != "" {
		a.Name = o.Name
	}
	if _, ok := img.File.Part(payload.PartInitScript); ok {
		a.InitScript = true
	}
	if o.PublishAll {
		if a.Exposed, _, err = forward.Exposed(img.Manifest.Process.ExposedPorts, o.Publish); err != nil {
			return unit.App{}, err
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		return unit.App{}, fmt.Errorf("find the current folder, which paths are seen from: %w", err)
	}
	r := resolver{dir: dir, home: os.Getenv("HOME"), app: &a}
	for _, flag := range runflags.Args(fs, v.own...) {
		if err := r.add(flag); err != nil {
			return unit.App{}, err
		}
	}
	return a, nil
}

// restart is the unit's policy. A service is something that stays: without a word
// of the user, what failed is started again.
func restart(given bool, r app.Restart) unit.Restart {
	if !given {
		return unit.Restart{OnFailure: true}
	}
	switch r.Mode {
	case app.RestartAlways, app.RestartUnlessStopped:
		return unit.Restart{Always: true}
	case app.RestartOnFailure:
		return unit.Restart{OnFailure: true, Max: r.Max}
	}
	return unit.Restart{}
}

// stopSignal is the number of the signal that asks the container to end.
func stopSignal(name string) int {
	if n := unix.SignalNum(name); n != 0 {
		return int(n)
	}
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return int(n)
	}
	var n int
	if _, err := fmt.Sscanf(name, "%d", &n); err == nil && 0 < n && n < 128 {
		return n
	}
	return int(unix.SIGTERM)
}

func health(h *wire.Health) *unit.Health {
	if h == nil || len(h.Test) < 2 {
		return nil
	}
	command := h.Test[1:]
	if h.Test[0] == payload.HealthShell {
		command = append([]string{"/bin/sh", "-c"}, command...)
	}
	return &unit.Health{
		Command: command, Retries: h.Retries,
		Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout), StartPeriod: time.Duration(h.StartPeriod),
	}
}

// A resolver makes flags independent of the current folder and environment.
type resolver struct {
	dir, home string
	app       *unit.App
}

// add adds a flag of the form --NAME=VALUE to the app.
func (r *resolver) add(flag string) error {
	name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
	switch name {
	case "volume":
		v, err := r.volume(value)
		if err != nil {
			return err
		}
		r.app.Volumes = append(r.app.Volumes, v)
		value = v.Flag
	case "env":
		if !strings.Contains(value, "=") {
			now, ok := os.LookupEnv(value)
			if !ok {
				return nil // as docker-run(1) does
			}
			value += "=" + now
		}
	case "wireguard-conf-file":
		value = r.absolute(value)
		r.app.Reads = append(r.app.Reads, value)
	case "ssh-private-key-path", "ssh-sock-path", "ssh-script-path":
		value = r.absolute(value)
		r.app.Writes = append(r.app.Writes, filepath.Dir(value))
	}
	r.app.Flags = append(r.app.Flags, "--"+name+"="+value)
	return nil
}

func (r *resolver) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(r.dir, path)
}

func (r *resolver) volume(value string) (unit.Volume, error) {
	spec, err := volume.Parse(value)
	if err != nil {
		return unit.Volume{}, err
	}
	// Printing makes nothing, and what is missing here may be there where the unit
	// will run.
	found := spec
	found.Create = false
	if err := found.Resolve(r.dir, r.home); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unit.Volume{}, err
	}
	spec.Host, spec.File = found.Host, found.File
	if spec.Kind == volume.KindNamed {
		return unit.Volume{Spec: spec, Flag: value}, nil
	}
	_, rest, _ := strings.Cut(value, ":")
	if strings.Contains(spec.Host, ":") {
		return unit.Volume{}, fmt.Errorf("the volume %s lies in a folder with a colon in its name, %s, which cannot be written in a flag: make a symbolic link and give that", value, spec.Host)
	}
	return unit.Volume{Spec: spec, Flag: spec.Host + ":" + rest}, nil
}
